//! Who is who in shared data, on the wire and across configurations: 64-bit hashes of names.
//!
//! A hash stands for a thing wherever its name would be too long or would outlive it; two
//! configurations that live side by side can then never mean different things by one number.
//!
//! The few collections by hash are all there are: every further kind of map, set or sort would
//! bring code of its own into the module, a few kilobytes each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;

use xxhash_rust::xxh64::xxh64;

use super::random::SplitMix64;

/// Seed of every hash that another process may see; changing it is a change of format.
const SEED: u64 = 0x706f_696e_7473_6d6e;

/// A key that says what it names.
pub trait Key: Copy {
    /// The key with this hash.
    fn of(hash: u64) -> Self;
    /// Its hash.
    fn hash(self) -> u64;
}

/// A revision, which has no type of its own and stands in sets too.
impl Key for u64 {
    fn of(hash: u64) -> Self {
        hash
    }

    fn hash(self) -> u64 {
        self
    }
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident),+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl Key for $name {
            fn of(hash: u64) -> Self {
                $name(hash)
            }

            fn hash(self) -> u64 {
                self.0
            }
        }
    )+};
}

keys! {
    /// Names a cluster; see [`cluster_key`].
    ClusterKey,
    /// Names a backend of a cluster, in gates and verdicts; see [`backend_key`].
    BackendKey,
    /// Names an address of a cluster, in heartbeats; see [`load_key`].
    LoadKey,
    /// Names a client of a cluster, in heartbeats.
    ClientKey
}

/// The 64-bit hash of a cluster's name.
pub fn cluster_key(name: &[u8]) -> ClusterKey {
    ClusterKey(xxh64(name, SEED))
}

/// The 64-bit hash of a backend's identity: the pair of its id and its address, so that a new
/// address under an old id is a new backend.
pub fn backend_key(id: &str, address: &str) -> BackendKey {
    // Addresses hold no NUL, so the pair cannot be split in two ways.
    let mut pair = Vec::with_capacity(id.len().saturating_add(address.len()).saturating_add(1));
    pair.extend_from_slice(address.as_bytes());
    pair.push(0);
    pair.extend_from_slice(id.as_bytes());
    BackendKey(xxh64(&pair, SEED))
}

/// The key under which workers tell each other the load of an address in a cluster.
pub fn load_key(cluster: ClusterKey, address: &str) -> LoadKey {
    LoadKey(below(cluster.0, address))
}

/// The hash of a name that means something only below another one.
pub fn below(key: u64, name: &str) -> u64 {
    xxh64(name.as_bytes(), key)
}

/// The hash of any other text or document: a revision, a defaulted sticky value.
pub fn text_key(text: &[u8]) -> u64 {
    xxh64(text, SEED)
}

/// What a key draws for another: 64 even bits, the same on every worker and every Envoy.
pub fn draw(key: u64, other: u64) -> u64 {
    SplitMix64::new(key ^ other).draw()
}

/// A hash as it is written: 16 lower-case hex digits.
pub fn hex(key: u64) -> String {
    format!("{key:016x}")
}

/// Reads what [`hex`] wrote; `None` for anything else.
pub fn parse_hex(text: &str) -> Option<u64> {
    let canonical =
        text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

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

/// A set of keys of one kind that is made once.
#[derive(Debug, Default)]
pub struct KeySet<K>(Vec<(u64, u32)>, PhantomData<K>);

impl<K: Key> KeySet<K> {
    /// Whether a key is in it.
    pub fn contains(&self, key: K) -> bool {
        let key = key.hash();
        self.0.binary_search_by_key(&key, |(key, _)| *key).is_ok()
    }

    /// The keys in order, each once.
    pub fn iter(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(key, _)| K::of(*key))
    }
}

impl<K: Key> FromIterator<K> for KeySet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut pairs: Vec<(u64, u32)> = keys.into_iter().map(|key| (key.hash(), 0)).collect();
        sort(&mut pairs);
        pairs.dedup();
        KeySet(pairs, PhantomData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn identity_is_the_pair_of_id_and_address() {
        let key = backend_key("a", "10.0.0.1:80");
        assert_eq!(key, backend_key("a", "10.0.0.1:80"));
        assert_ne!(key, backend_key("a", "10.0.0.2:80"));
        assert_ne!(key, backend_key("b", "10.0.0.1:80"));
    }

    #[test]
    fn hex_reads_back_and_refuses_the_rest() {
        for key in [0, 1, u64::MAX, 0x00ff_0000_1234_abcd] {
            assert_eq!(parse_hex(&hex(key)), Some(key));
        }
        for bad in [
            "",
            "1",
            "00000000000000000",
            "000000000000000G",
            "+00000000000000a",
            "ABCDEF0123456789",
        ] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_set_has_each_key_once_in_order() {
        let set: KeySet<LoadKey> = [3, 1, u64::MAX, 3].map(LoadKey).into_iter().collect();
        assert!(set.iter().eq([1, 3, u64::MAX].map(LoadKey)));
        assert!(set.contains(LoadKey(3)) && !set.contains(LoadKey(2)));
        assert!(!KeySet::default().contains(LoadKey(0)));
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
