//! Collections by 64-bit key.
//!
//! The few kinds here are all there are: every further kind of map, set or sort would bring code of
//! its own into the module, a few kilobytes each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by keys that are good hashes already.
pub type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

/// Takes a key for its own hash.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    /// Nothing but a `u64` is a key; still, whatever comes must count.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// Sorts (key, index) pairs. Not inlined: sorting is a lot of code.
#[inline(never)]
pub fn sort(pairs: &mut [(u64, u32)]) {
    pairs.sort_unstable();
}

/// A set of keys that is made once.
#[derive(Debug, Default)]
pub struct KeySet(Vec<(u64, u32)>);

impl KeySet {
    /// Whether a key is in it.
    pub fn contains(&self, key: u64) -> bool {
        self.0.binary_search_by_key(&key, |(key, _)| *key).is_ok()
    }

    /// The keys in order, each once.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|(key, _)| *key)
    }
}

impl FromIterator<u64> for KeySet {
    fn from_iter<I: IntoIterator<Item = u64>>(keys: I) -> Self {
        let mut pairs: Vec<(u64, u32)> = keys.into_iter().map(|key| (key, 0)).collect();
        sort(&mut pairs);
        pairs.dedup();
        KeySet(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_set_has_each_key_once_in_order() {
        let set: KeySet = [3, 1, u64::MAX, 3].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<u64>>(), [1, 3, u64::MAX]);
        assert!(set.contains(3) && !set.contains(2));
        assert!(!KeySet::default().contains(0));
    }

    #[test]
    fn a_map_finds_what_was_put_in() {
        let mut map = KeyMap::default();
        for key in [0, 1, 1 << 63, u64::MAX] {
            map.insert(key, key);
        }
        assert!(map.iter().all(|(key, value)| key == value));
        assert_eq!((map.len(), map.get(&2)), (4, None));
    }
}
