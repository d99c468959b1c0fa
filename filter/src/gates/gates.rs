//! What keeps backends of a cluster out of the picks: back-offs and verdicts, with the latches of
//! the regimes they lead to. One blob in shared data per cluster, seen by every worker.
//!
//! Nothing gated is an **empty** blob, so that the good path reads nothing. Entries are keyed by
//! the hash of (id, address), never by position: two configurations may live side by side. A blob of
//! another version, too short or too long counts as empty; one whose entries are out of order is
//! emptied by whoever tidies up next. Changes are made where they belong: what a newer module has
//! appended to the head or to an entry is left alone.

use super::entries::Entries;
use super::gate::{ENTRY, Gate, holds_nothing};
use crate::base::hash::KeySet;
use crate::base::record::{self, Fields};
use crate::base::time::WallTime;

const VERSION: u8 = 1;
/// Most entries of one blob; more are not taken in.
pub const ENTRIES_MAX: usize = 20_000;
const FAIL_OPEN: u8 = 1;
const ALL_DOWN: u8 = 2;
/// Entries of backends that no configuration names are dropped this long after their window.
const STALE_NS: u64 = 600_000_000_000;

/// The head of a blob, and its entries.
#[derive(Debug, Clone, Copy)]
struct Blob<'a> {
    flags: u8,
    /// Fields of a newer module.
    appended: &'a [u8],
    entries: Entries<'a>,
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Blob<'a> {
    /// `None` for the empty and the corrupt.
    fn open(blob: &'a [u8]) -> Option<Self> {
        let (mut fields, bytes): (Fields<'a>, &'a [u8]) = record::open(blob, VERSION)?;
        let (flags, size, count) = (fields.u8()?, fields.u16()?, fields.u16()?);
        let (size, count) = (usize::from(size), usize::from(count));
        let fits = size >= ENTRY && bytes.len() == count.checked_mul(size)?;
        (fits && count <= ENTRIES_MAX).then_some(Blob {
            flags,
            appended: fields.rest(),
            entries: Entries::new(bytes, size),
            bytes,
            size,
        })
    }
}

/// The entries of a blob and the latch of fail-open, read in place.
pub(super) fn open(blob: &[u8]) -> (Entries<'_>, bool) {
    match Blob::open(blob) {
        Some(blob) => (blob.entries, blob.flags & FAIL_OPEN != 0),
        None => (Entries::NONE, false),
    }
}

/// The gates of one cluster, to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gates {
    /// Requests are sent to unhealthy backends because no other is left.
    pub fail_open: bool,
    /// No backend is available.
    pub all_down: bool,
    /// Flags of a newer module.
    other_flags: u8,
    /// Fields of a newer module.
    appended: Vec<u8>,
    /// The entries, each of `size` bytes.
    bytes: Vec<u8>,
    size: usize,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            fail_open: false,
            all_down: false,
            other_flags: 0,
            appended: Vec::new(),
            bytes: Vec::new(),
            size: ENTRY,
        }
    }
}

impl Gates {
    /// Takes a blob over; see the module's text for the corrupt.
    pub fn decode(blob: &[u8]) -> Self {
        let Some(blob) = Blob::open(blob) else {
            return Gates::default();
        };
        Gates {
            fail_open: blob.flags & FAIL_OPEN != 0,
            all_down: blob.flags & ALL_DOWN != 0,
            other_flags: blob.flags & !(FAIL_OPEN | ALL_DOWN),
            appended: blob.appended.to_vec(),
            bytes: blob.bytes.to_vec(),
            size: blob.size,
        }
    }

    /// The blob; empty when nothing is gated.
    pub fn encode(&self) -> Vec<u8> {
        let flags = self.other_flags
            | if self.fail_open { FAIL_OPEN } else { 0 }
            | if self.all_down { ALL_DOWN } else { 0 };
        let appended = self.appended.iter().any(|byte| *byte != 0);
        if flags == 0 && self.bytes.is_empty() && !appended {
            return Vec::new();
        }
        let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
        let ([s0, s1], [c0, c1]) = (number(self.size), number(self.entries().len()));
        let mut fields = vec![flags, s0, s1, c0, c1];
        fields.extend_from_slice(&self.appended);
        let mut blob = record::create(VERSION, &fields, self.bytes.len());
        blob.extend_from_slice(&self.bytes);
        blob
    }

    /// All of them.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.bytes, self.size)
    }

    /// The gate of a backend, if anything is held against it.
    pub fn of(&self, key: u64) -> Option<Gate> {
        self.entries().of(key)
    }

    /// Changes the gate of a backend; one that holds nothing afterwards is dropped.
    pub fn update(&mut self, key: u64, change: impl FnOnce(&mut Gate)) {
        let entries = self.entries();
        let found = entries.find(key);
        let place = match found {
            Err(_) if entries.len() >= ENTRIES_MAX => return,
            Ok(place) | Err(place) => place,
        };
        let mut gate = entries.of(key).unwrap_or(Gate::open(key));
        change(&mut gate);
        match found {
            Ok(_) => self.put(place, &gate),
            Err(_) => self.insert(place, &gate),
        }
    }

    /// Takes verdicts in: those in `unhealthy` are, those for whom `healthy` is true are not.
    pub fn judge(&mut self, unhealthy: &[u64], healthy: impl Fn(u64) -> bool, now: WallTime) {
        let unhealthy: KeySet = unhealthy.iter().copied().collect();
        self.revise(|gate| {
            let stays = gate.unhealthy && !healthy(gate.key);
            gate.judge(unhealthy.contains(gate.key) || stays, now);
            true
        });
        // One merge: a verdict on a whole large cluster must not insert one by one.
        let room = ENTRIES_MAX.saturating_sub(self.entries().len());
        let strangers = unhealthy.iter().filter(|key| self.of(*key).is_none());
        let strangers: Vec<u64> = strangers.take(room).collect();
        let mut merged = Vec::with_capacity(
            (strangers.len().saturating_mul(self.size)).saturating_add(self.bytes.len()),
        );
        let mut strangers = strangers.into_iter().peekable();
        for entry in self.bytes.chunks_exact(self.size.max(1)) {
            let key = Gate::read(entry).map_or(u64::MAX, |gate| gate.key);
            while let Some(key) = strangers.next_if(|stranger| *stranger < key) {
                append_unhealthy(&mut merged, self.size, key, now);
            }
            merged.extend_from_slice(entry);
        }
        strangers.for_each(|key| append_unhealthy(&mut merged, self.size, key, now));
        self.bytes = merged;
    }

    /// Ends windows that began before the clock stepped back, and drops the back-offs of backends
    /// that `known` denies, once their window is long over. Entries out of order are dropped
    /// altogether: nobody would find them.
    pub fn prune(&mut self, now: WallTime, known: impl Fn(u64) -> bool) {
        if !self.entries().are_in_order() {
            *self = Gates::default();
        }
        self.revise(|gate| {
            if gate.is_of_the_future(now) {
                (gate.failed_at, gate.until) = (now, now);
            }
            let stale = !gate.unhealthy && gate.until.plus(STALE_NS) < now;
            !stale || known(gate.key)
        });
    }

    /// Changes every gate. One that `keep` denies or that holds nothing is dropped.
    fn revise(&mut self, mut keep: impl FnMut(&mut Gate) -> bool) {
        let mut kept = Vec::with_capacity(self.bytes.len());
        for entry in self.bytes.chunks_exact_mut(self.size.max(1)) {
            let Some(mut gate) = Gate::read(entry) else {
                continue;
            };
            let before = gate;
            let stays = keep(&mut gate);
            if gate != before {
                gate.write(entry);
            }
            if stays && !holds_nothing(entry) {
                kept.extend_from_slice(entry);
            }
        }
        self.bytes = kept;
    }

    fn put(&mut self, place: usize, gate: &Gate) {
        let start = place.saturating_mul(self.size);
        let entry = start..start.saturating_add(self.size);
        if let Some(bytes) = self.bytes.get_mut(entry.clone()) {
            gate.write(bytes);
            if holds_nothing(bytes) {
                self.bytes.drain(entry);
            }
        }
    }

    fn insert(&mut self, place: usize, gate: &Gate) {
        let mut entry = vec![0; self.size];
        gate.write(&mut entry);
        let start = place.saturating_mul(self.size);
        if !holds_nothing(&entry) && start <= self.bytes.len() {
            self.bytes.splice(start..start, entry);
        }
    }
}

fn append_unhealthy(bytes: &mut Vec<u8>, size: usize, key: u64, now: WallTime) {
    let start = bytes.len();
    bytes.resize(start.saturating_add(size), 0);
    let mut unhealthy = Gate::open(key);
    unhealthy.judge(true, now);
    if let Some(entry) = bytes.get_mut(start..) {
        unhealthy.write(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_arch = "wasm32"))]
    use proptest::prelude::{any, prop_assert_eq, proptest};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn at(ns: u64) -> WallTime {
        WallTime::from_ns(ns)
    }

    fn two() -> Gates {
        let mut gates = Gates {
            all_down: true,
            ..Gates::default()
        };
        gates.update(9, |gate| gate.unhealthy = true);
        gates.update(3, |gate| {
            (gate.tries, gate.failed_at, gate.until) = (2, at(5), at(8))
        });
        gates
    }

    #[test]
    fn nothing_gated_is_an_empty_blob() {
        assert!(Gates::default().encode().is_empty());
        let mut gates = two();
        gates.all_down = false;
        gates.update(9, |gate| gate.unhealthy = false);
        gates.update(3, |gate| *gate = Gate::open(3));
        assert!(gates.encode().is_empty());
    }

    #[test]
    fn reads_back_sorted() {
        let read = Gates::decode(&two().encode());
        assert_eq!(read, two());
        assert_eq!(read.of(3).map(|gate| gate.until), Some(at(8)));
        assert_eq!(read.of(4), None);
    }

    #[test]
    fn corrupt_blobs_count_as_empty() {
        let good = two().encode();
        let mut other_version = good.clone();
        other_version[0] = 2;
        let longer = [good.clone(), vec![0]].concat();
        let shorter = good[..good.len() - 1].to_vec();
        let small_entries = record::create(VERSION, &[0, 1, 0, 0, 0], 0);
        let endless = record::create(VERSION, &[0, 255, 255, 255, 255], 0);
        for blob in [
            other_version,
            longer,
            shorter,
            small_entries,
            endless,
            vec![1],
        ] {
            assert_eq!(Gates::decode(&blob), Gates::default(), "{blob:?}");
            assert!(open(&blob).0.is_empty(), "{blob:?}");
        }
    }

    #[test]
    fn entries_out_of_order_are_dropped_by_whoever_tidies() {
        let mut blob = two().encode();
        let first = blob.len() - 2 * ENTRY;
        blob[first] = 99;
        let mut gates = Gates::decode(&blob);
        gates.prune(at(0), |_| true);
        assert!(gates.encode().is_empty());
        let mut gates = two();
        gates.prune(at(0), |_| true);
        assert_eq!(gates, two());
    }

    /// What a module writes that knows two more bytes of each entry and one more of the head.
    fn newer(gates: &Gates) -> Vec<u8> {
        let wide = ENTRY + 2;
        let mut newer = Gates {
            bytes: Vec::new(),
            size: wide,
            appended: vec![5],
            ..gates.clone()
        };
        for gate in gates.entries().iter() {
            newer.update(gate.key, |entry| *entry = gate);
        }
        let entries = newer.bytes.chunks_exact_mut(wide);
        entries.for_each(|entry| entry[ENTRY + 1] = entry[0]);
        newer.encode()
    }

    #[test]
    fn a_newer_modules_gates_are_read_and_what_it_appended_stays() {
        let mut gates = Gates::decode(&newer(&two()));
        assert!(gates.entries().iter().eq(two().entries().iter()));
        assert!(gates.all_down);
        gates.update(4, |gate| gate.tries = 1);
        gates.judge(&[5], |_| true, at(0));
        gates.update(3, |gate| *gate = Gate::open(3));
        gates.all_down = false;
        let keys = |gates: &Gates| gates.entries().iter().map(|g| g.key).collect::<Vec<_>>();
        assert_eq!(keys(&gates), [3, 4, 5, 9], "3 and 9 hold what is not ours");
        assert_eq!(Gates::decode(&gates.encode()), gates);
        let wide = ENTRY + 2;
        let appended = gates.bytes.chunks_exact(wide).map(|e| e[wide - 1]);
        assert_eq!(appended.collect::<Vec<u8>>(), [3, 0, 0, 9]);
        for key in [4, 5] {
            gates.update(key, |gate| *gate = Gate::open(key));
        }
        assert_eq!(keys(&gates), [3, 9]);
        gates.bytes.clear();
        assert!(!gates.encode().is_empty(), "its head says something still");
    }

    #[test]
    fn verdicts_come_and_go_without_touching_back_offs() {
        let mut gates = two();
        gates.judge(&[4, 3, 4], |key| key == 9, at(20));
        assert_eq!(gates.of(9), None);
        assert!(gates.of(4).is_some_and(|gate| gate.unhealthy));
        assert!(
            gates
                .of(3)
                .is_some_and(|gate| gate.unhealthy && gate.tries == 2)
        );
        assert_eq!(gates.of(4).map(|gate| gate.unhealthy_since), Some(at(20)));
        gates.judge(&[4], |_| false, at(30));
        assert_eq!(gates.of(4).map(|gate| gate.unhealthy_since), Some(at(20)));
        gates.judge(&[], |_| true, at(40));
        assert!(
            gates
                .of(3)
                .is_some_and(|gate| !gate.unhealthy && gate.tries == 2)
        );
    }

    #[test]
    fn forgotten_backends_are_dropped_late() {
        let mut gates = two();
        gates.prune(at(STALE_NS), |_| false);
        assert!(gates.of(3).is_some());
        gates.prune(at(STALE_NS + 9), |key| key == 3);
        assert!(gates.of(3).is_some());
        gates.prune(at(STALE_NS + 9), |_| false);
        assert!(gates.of(3).is_none() && gates.of(9).is_some());
    }

    #[test]
    fn a_window_from_before_the_clock_stepped_back_ends_now() {
        let (now, mut gates) = (at(1_000_000_000), Gates::default());
        let (a_moment, hour) = (1_000_000_000, 3_600_000_000_000);
        for (key, failed_at) in [(1, now.plus(a_moment)), (2, now.plus(hour))] {
            gates.update(key, |gate| {
                (gate.tries, gate.failed_at, gate.until) = (3, failed_at, at(u64::MAX));
            });
        }
        gates.prune(now, |_| true);
        assert!(gates.of(1).is_some_and(|gate| gate.backs_off(now)));
        assert!(
            gates
                .of(2)
                .is_some_and(|gate| gate.tries == 3 && gate.until == now)
        );
    }

    #[test]
    fn a_verdict_on_more_than_fit_takes_in_as_many_as_fit() {
        let mut gates = two();
        let keys: Vec<u64> = (0..30_000).rev().collect();
        gates.judge(&keys, |_| false, at(0));
        assert_eq!(gates.entries().len(), ENTRIES_MAX);
        assert!(gates.of(9).is_some() && gates.of(3).is_some_and(|gate| gate.unhealthy));
        assert_eq!(Gates::decode(&gates.encode()), gates);
        gates.update(u64::MAX, |gate| gate.tries = 1);
        assert_eq!(gates.of(u64::MAX), None);
        gates.judge(&[], |_| true, at(0));
        assert_eq!(gates.entries().len(), 1);
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest! {
        #[test]
        fn any_bytes_decode(blob in proptest::collection::vec(any::<u8>(), 0..200)) {
            let gates = Gates::decode(&blob);
            prop_assert_eq!(Gates::decode(&gates.encode()), gates);
        }
    }
}
