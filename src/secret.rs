//! Proxy keys, the only form in which they are stored, and values that never print themselves.

use std::fmt;

use sha2::{Digest, Sha256};

/// What every proxy key starts with. Never changes: clients and secret scanners rely on it.
pub const KEY_PREFIX: &str = "lp-";
/// Characters after the prefix: 43 base-62 digits carry 256 random bits.
const KEY_DIGITS: usize = 43;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A secret in memory. It has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The secret itself: only for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a proxy key, the only form in which it is stored or compared.
///
/// A key has 256 random bits, so a plain hash cannot be searched; comparing hashes leaks nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a well-formed key; `None` when the text is not `lp-` + 43 base-62 characters.
    pub fn of(key: &str) -> Option<KeyHash> {
        is_well_formed(key).then(|| KeyHash(Sha256::digest(key.as_bytes()).into()))
    }

    /// Lower-case hexadecimal, 64 characters.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`KeyHash::hex`] wrote.
    pub fn from_hex(text: &str) -> Option<KeyHash> {
        let bytes = unhex(text)?;
        bytes.try_into().ok().map(KeyHash)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", &self.hex()[..8])
    }
}

/// True for `lp-` followed by exactly 43 base-62 characters.
pub fn is_well_formed(key: &str) -> bool {
    key.strip_prefix(KEY_PREFIX)
        .is_some_and(|digits| digits.len() == KEY_DIGITS && digits.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A new proxy key with 256 random bits from the operating system.
pub fn new_key() -> Result<Secret, getrandom::Error> {
    let mut number = [0u8; 32];
    getrandom::fill(&mut number)?;
    // Long division by 62: 43 digits hold 256 bits exactly, so no bit is lost and none is biased.
    let mut digits = [b'0'; KEY_DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = BASE62[remainder as usize];
    }
    Ok(Secret(format!("{KEY_PREFIX}{}", String::from_utf8_lossy(&digits))))
}

/// `count` random bytes as lower-case hexadecimal: ids of holds, keys and teams.
pub fn random_hex<const COUNT: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; COUNT];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_well_formed_and_differ() {
        let a = new_key().unwrap();
        let b = new_key().unwrap();
        assert!(is_well_formed(a.expose()), "{}", a.expose().len());
        assert_ne!(a, b);
        assert_eq!(format!("{a:?}"), "Secret(…)");
    }

    #[test]
    fn only_the_exact_form_is_a_key() {
        let good = format!("lp-{}", "a".repeat(43));
        assert!(KeyHash::of(&good).is_some());
        for bad in [
            "",
            "lp-",
            "sk-abc",
            &good[..45],
            &format!("{good}a"),
            &format!("LP-{}", "a".repeat(43)),
            &format!("lp-{}-", "a".repeat(42)),
        ] {
            assert!(KeyHash::of(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_survives_its_hex_form() {
        let hash = KeyHash::of(&format!("lp-{}", "b".repeat(43))).unwrap();
        assert_eq!(KeyHash::from_hex(&hash.hex()), Some(hash));
        assert_eq!(KeyHash::from_hex("zz"), None);
    }
}
