//! Agents that run in circles: the same request body again and again, from one key and session. Off unless `limits.loop_repeats` says
//! how often is too often. Each gateway counts for itself, holds no money meanwhile, and lets a call through whose body it cannot count.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::app::{App, size};
use super::refusal::Refusal;
use crate::config::Settings;
use crate::secret::KeyHash;

/// Counts this body, where loops are looked for. The refusal says that it came too often.
pub fn check(app: &App, settings: &Settings, key: &KeyHash, session: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    let limits = &settings.limits;
    if limits.loop_repeats == 0 {
        return Ok(());
    }
    let period = Duration::from_secs(limits.loop_seconds);
    let times = app.bodies.add(Instant::now(), digest(key, session, body), period, size(limits.loop_bodies));
    match times {
        Some(times) if times > limits.loop_repeats => {
            Err(Refusal::loop_detected(limits.loop_repeats, limits.loop_seconds))
        }
        _ => Ok(()),
    }
}

/// Half of a SHA-256: nobody makes two bodies meet by chance, and who does so on purpose refuses himself.
fn digest(key: &KeyHash, session: Option<&str>, body: &[u8]) -> u128 {
    let mut hash = Sha256::new();
    hash.update(key.hex());
    hash.update([u8::from(session.is_some())]);
    hash.update(session.unwrap_or_default());
    hash.update([0]);
    hash.update(body);
    hash.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_other_keys_and_sessions_are_others() {
        let key = |letter: &str| KeyHash::of(&format!("lp-{}", letter.repeat(43))).unwrap();
        let all = [
            digest(&key("a"), None, b"x"),
            digest(&key("b"), None, b"x"),
            digest(&key("a"), Some(""), b"x"),
            digest(&key("a"), Some("x"), b""),
            digest(&key("a"), Some("s"), b"x"),
            digest(&key("a"), None, b"y"),
        ];
        let distinct: std::collections::HashSet<u128> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(digest(&key("a"), Some("s"), b"x"), all[4]);
    }
}
