//! The provider's prompt cache: which prefixes of prompts it has seen.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use super::words::{mix, seed_of};

/// After so many prefixes the oldest knowledge is dropped, all at once.
const KEEP: usize = 100_000;

/// The prefixes seen since the start or the last reset. They do not expire.
#[derive(Debug, Default)]
pub struct Cache {
    seen: Mutex<HashSet<u64>>,
}

/// For how long a prefix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Five minutes, or whatever the provider does by itself.
    Short,
    /// An hour.
    Hour,
}

/// A prompt on its way to the cache: text by text, with breakpoints between.
#[derive(Debug)]
pub struct Prefixes {
    hash: u64,
    tokens: u64,
    points: Vec<(u64, u64, Life)>,
}

/// What the cache does for a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Tokens read.
    pub read: u64,
    /// Tokens written for a short time.
    pub short: u64,
    /// Tokens written for an hour.
    pub hour: u64,
    /// The prefixes to remember once the call is billed.
    pub remember: Vec<u64>,
}

impl Prefixes {
    /// An empty prompt for `model`.
    pub fn new(model: &str) -> Prefixes {
        Prefixes { hash: seed_of(model.as_bytes()), tokens: 0, points: Vec::new() }
    }

    /// The prompt goes on with `text`, which has so many tokens.
    pub fn add(&mut self, text: &str, tokens: u64) {
        self.hash = mix(self.hash ^ seed_of(text.as_bytes()));
        self.tokens += tokens;
    }

    /// Everything so far may be cached.
    pub fn breakpoint(&mut self, life: Life) {
        self.points.push((self.hash, self.tokens, life));
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

impl Cache {
    /// The longest known prefix is read; what follows up to each later breakpoint is written.
    pub fn look_up(&self, prefixes: &Prefixes) -> Hit {
        let seen = self.lock();
        let mut hit = Hit::default();
        let mut done = 0;
        for (at, (hash, tokens, _)) in prefixes.points.iter().enumerate() {
            if seen.contains(hash) {
                (hit.read, done) = (*tokens, at + 1);
            }
        }
        let mut from = hit.read;
        for (_, tokens, life) in prefixes.points.iter().skip(done) {
            match life {
                Life::Short => hit.short += tokens - from,
                Life::Hour => hit.hour += tokens - from,
            }
            from = *tokens;
        }
        hit.remember = prefixes.points.iter().map(|(hash, _, _)| *hash).collect();
        hit
    }

    /// Remembers prefixes.
    pub fn remember(&self, prefixes: &[u64]) {
        if prefixes.is_empty() {
            return;
        }
        let mut seen = self.lock();
        if seen.len() > KEEP {
            seen.clear();
        }
        seen.extend(prefixes);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(texts: &[(&str, u64, Option<Life>)]) -> Prefixes {
        let mut prefixes = Prefixes::new("m");
        for (text, tokens, life) in texts {
            prefixes.add(text, *tokens);
            if let Some(life) = life {
                prefixes.breakpoint(*life);
            }
        }
        prefixes
    }

    #[test]
    fn first_written_then_read_and_extended() {
        let cache = Cache::default();
        let first = prompt(&[("a", 10, Some(Life::Hour)), ("b", 5, Some(Life::Short)), ("c", 3, None)]);
        let hit = cache.look_up(&first);
        assert_eq!((hit.read, hit.short, hit.hour), (0, 5, 10));
        assert_eq!(cache.look_up(&first).read, 0, "only a billed call writes");
        cache.remember(&hit.remember);
        assert_eq!(cache.look_up(&first).read, 15);
        let longer = prompt(&[("a", 10, Some(Life::Hour)), ("x", 7, Some(Life::Short))]);
        let hit = cache.look_up(&longer);
        assert_eq!((hit.read, hit.short, hit.hour), (10, 7, 0));
        cache.clear();
        assert_eq!(cache.look_up(&first).read, 0);
    }
}
