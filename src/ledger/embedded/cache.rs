//! A cache of bounded size in two generations: what is used stays, what is not used for a whole generation goes.

use std::collections::HashMap;
use std::hash::Hash;

/// A bounded cache. It may only be aged when nothing in it waits to be written.
#[derive(Debug)]
pub struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    size: usize,
}

impl<K: Eq + Hash + Clone, V> Cache<K, V> {
    /// A cache that keeps at least the last `size` entries used, and about twice as many at most.
    pub fn new(size: usize) -> Self {
        Cache { young: HashMap::new(), old: HashMap::new(), size }
    }

    /// An entry, which is young again.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.young.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Replaces an entry.
    pub fn put(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Lets the entries that were not used for a generation go, if there are too many.
    pub fn age(&mut self) {
        if self.young.len() >= self.size {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// The number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut cache = Cache::new(10);
        cache.put(0, 0);
        for i in 1..1000 {
            cache.put(i, i);
            assert!(cache.get(&0).is_some(), "{i}");
            cache.age();
            assert!(cache.len() <= 21);
        }
        assert!(cache.get(&1).is_none());
        assert_eq!(cache.get(&999), Some(&mut 999));
    }
}
