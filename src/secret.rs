//! Proxy keys, the only form in which they are stored, and values that never print themselves.

use std::cell::RefCell;
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

/// Keeps this process's memory, and so every secret in it, out of core dumps: only registers are left of one. Children inherit that.
/// True when the system took it (Linux does).
pub fn keep_out_of_core_dumps() -> bool {
    std::fs::write("/proc/self/coredump_filter", "0").is_ok()
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

/// `COUNT` random bytes as lower-case hexadecimal: ids of holds, requests, keys and teams.
pub fn random_hex<const COUNT: usize>() -> Result<String, getrandom::Error> {
    POOL.with_borrow_mut(Pool::take::<COUNT>).map(|bytes| hex(&bytes))
}

/// `COUNT` random bytes: ids of traces and spans.
pub fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT], getrandom::Error> {
    POOL.with_borrow_mut(Pool::take::<COUNT>)
}

/// Random bytes that a thread has fetched from the operating system at once: two ids a call are then no system calls.
struct Pool {
    bytes: [u8; POOL_BYTES],
    /// So many were handed out, and are zero since.
    used: usize,
}

/// Bytes fetched at once.
const POOL_BYTES: usize = 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) };
}

impl Pool {
    /// Bytes that nobody had before and nobody will have again.
    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], getrandom::Error> {
        const { assert!(COUNT <= POOL_BYTES) };
        if POOL_BYTES - self.used < COUNT {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let place = &mut self.bytes[self.used..self.used + COUNT];
        let mut taken = [0; COUNT];
        taken.copy_from_slice(place);
        place.fill(0);
        self.used += COUNT;
        Ok(taken)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = vec![0; bytes.len() * 2];
    for (place, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *place = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    String::from_utf8(text).unwrap_or_default()
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
    fn no_random_bytes_are_handed_out_twice() {
        let take = || -> Vec<String> { (0..1000).map(|_| random_hex::<16>().unwrap()).collect() };
        let other = std::thread::spawn(take).join().unwrap();
        let all: std::collections::HashSet<String> = take().into_iter().chain(other).collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|id| id.len() == 32 && unhex(id).is_some()));
        let mut pool = Pool { bytes: [1; POOL_BYTES], used: POOL_BYTES - 3 };
        assert_eq!(pool.take::<3>(), Ok([1; 3]));
        assert_eq!(pool.bytes[POOL_BYTES - 3..], [0; 3]);
        assert_ne!(pool.take::<16>(), Ok([0; 16]));
        assert_eq!(pool.used, 16);
    }

    #[test]
    fn a_hash_survives_its_hex_form() {
        let hash = KeyHash::of(&format!("lp-{}", "b".repeat(43))).unwrap();
        assert_eq!(KeyHash::from_hex(&hash.hex()), Some(hash));
        assert_eq!(KeyHash::from_hex("zz"), None);
    }
}
