//! What keeps backends of a cluster out of the picks: back-offs and verdicts, with the latches of
//! the regimes they lead to. One blob in shared data per cluster, seen by every worker.
//!
//! Nothing gated is an **empty** blob, so that the good path reads nothing. Entries are keyed by
//! the hash of (id, address), never by position: two configurations may live side by side. A blob of
//! another format, too short, out of order or otherwise corrupt counts as empty.

use crate::base::hash::KeySet;
use crate::base::time::WallTime;

/// The first byte of a blob; another one is another format.
const FORMAT: u8 = 1;
const HEAD: usize = 4;
const ENTRY: usize = 26;
/// Most entries of one blob; more are not taken in.
pub const ENTRIES_MAX: usize = 20_000;
const FAIL_OPEN: u8 = 1;
const ALL_DOWN: u8 = 2;
const UNHEALTHY: u8 = 1;
/// Entries of backends that no configuration names are dropped this long after their window.
const STALE_NS: u64 = 600_000_000_000;

/// What is held against one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// [`crate::base::hash::backend_key`].
    pub key: u64,
    /// Failures counted since the last success.
    pub tries: u8,
    /// The sidecar's verdict.
    pub unhealthy: bool,
    /// When the last counted failure happened, wall clock.
    pub failed_at: WallTime,
    /// When its window ends, wall clock.
    pub until: WallTime,
}

impl Gate {
    /// A gate that holds nothing against the backend yet.
    pub fn open(key: u64) -> Self {
        Gate {
            key,
            tries: 0,
            unhealthy: false,
            failed_at: WallTime::default(),
            until: WallTime::default(),
        }
    }

    /// Whether the backend is inside its back-off window.
    pub fn backs_off(&self, now: WallTime) -> bool {
        now < self.until && !self.is_of_the_future(now)
    }

    /// Whether its failure was counted before the clock stepped back: nothing can be later than it,
    /// so any success clears it.
    pub fn is_of_the_future(&self, now: WallTime) -> bool {
        now.stepped_back_since(self.failed_at)
    }

    fn holds_nothing(&self) -> bool {
        self.tries == 0 && !self.unhealthy
    }
}

/// The gates of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gates {
    /// Requests are sent to unhealthy backends because no other is left.
    pub fail_open: bool,
    /// No backend is available.
    pub all_down: bool,
    gates: Vec<Gate>,
}

impl Gates {
    /// Reads a blob; see the module's text for the corrupt.
    pub fn decode(blob: &[u8]) -> Self {
        Self::try_decode(blob).unwrap_or_default()
    }

    fn try_decode(blob: &[u8]) -> Option<Self> {
        let (head, body) = blob.split_at_checked(HEAD)?;
        let [FORMAT, flags, low, high] = *head else {
            return None;
        };
        let count = usize::from(u16::from_le_bytes([low, high]));
        if count > ENTRIES_MAX || body.len() != count.checked_mul(ENTRY)? {
            return None;
        }
        let gates: Vec<Gate> = body
            .chunks_exact(ENTRY)
            .map(decode_gate)
            .collect::<Option<_>>()?;
        let in_order = gates.is_sorted_by(|a, b| a.key < b.key);
        in_order.then_some(Gates {
            fail_open: flags & FAIL_OPEN != 0,
            all_down: flags & ALL_DOWN != 0,
            gates,
        })
    }

    /// The blob; empty when nothing is gated.
    pub fn encode(&self) -> Vec<u8> {
        if *self == Gates::default() {
            return Vec::new();
        }
        let mut blob =
            Vec::with_capacity(self.gates.len().saturating_mul(ENTRY).saturating_add(HEAD));
        let flags =
            if self.fail_open { FAIL_OPEN } else { 0 } | if self.all_down { ALL_DOWN } else { 0 };
        let count = u16::try_from(self.gates.len()).unwrap_or(u16::MAX);
        blob.extend_from_slice(&[FORMAT, flags]);
        blob.extend_from_slice(&count.to_le_bytes());
        for gate in &self.gates {
            blob.extend_from_slice(&gate.key.to_le_bytes());
            blob.extend_from_slice(&[gate.tries, if gate.unhealthy { UNHEALTHY } else { 0 }]);
            blob.extend_from_slice(&gate.failed_at.ns().to_le_bytes());
            blob.extend_from_slice(&gate.until.ns().to_le_bytes());
        }
        blob
    }

    /// All gates, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter()
    }

    /// The gate of a backend, if anything is held against it.
    pub fn of(&self, key: u64) -> Option<&Gate> {
        let index = self
            .gates
            .binary_search_by_key(&key, |gate| gate.key)
            .ok()?;
        self.gates.get(index)
    }

    /// Changes the gate of a backend; one that holds nothing afterwards is dropped.
    pub fn update(&mut self, key: u64, change: impl FnOnce(&mut Gate)) {
        match self.gates.binary_search_by_key(&key, |gate| gate.key) {
            Ok(index) => {
                if let Some(gate) = self.gates.get_mut(index) {
                    change(gate);
                    if gate.holds_nothing() {
                        self.gates.remove(index);
                    }
                }
            }
            Err(index) if self.gates.len() < ENTRIES_MAX => {
                let mut gate = Gate::open(key);
                change(&mut gate);
                if !gate.holds_nothing() {
                    self.gates.insert(index, gate);
                }
            }
            Err(_) => {}
        }
    }

    /// Takes verdicts in: those in `unhealthy` are, those for whom `healthy` is true are not.
    pub fn judge(&mut self, unhealthy: &[u64], healthy: impl Fn(u64) -> bool) {
        for gate in &mut self.gates {
            gate.unhealthy = gate.unhealthy && !healthy(gate.key);
        }
        self.gates.retain(|gate| !gate.holds_nothing());
        // One merge: a verdict on a whole large cluster must not insert one by one.
        let room = ENTRIES_MAX.saturating_sub(self.gates.len());
        let mut strangers = Vec::new();
        for key in unhealthy {
            match self.gates.binary_search_by_key(key, |gate| gate.key) {
                Ok(index) => {
                    if let Some(gate) = self.gates.get_mut(index) {
                        gate.unhealthy = true;
                    }
                }
                Err(_) => strangers.push(*key),
            }
        }
        let strangers: KeySet = strangers.into_iter().collect();
        let mut strangers = strangers.iter().take(room).peekable();
        let stranger = |key| Gate {
            unhealthy: true,
            ..Gate::open(key)
        };
        let mut merged = Vec::with_capacity(self.gates.len().saturating_add(unhealthy.len()));
        for gate in self.gates.drain(..) {
            while let Some(key) = strangers.next_if(|key| *key < gate.key) {
                merged.push(stranger(key));
            }
            merged.push(gate);
        }
        merged.extend(strangers.map(stranger));
        self.gates = merged;
    }

    /// Ends windows that began before the clock stepped back, and drops the back-offs of backends
    /// that `known` denies, once their window is long over.
    pub fn prune(&mut self, now: WallTime, known: impl Fn(u64) -> bool) {
        for gate in &mut self.gates {
            if gate.is_of_the_future(now) {
                (gate.failed_at, gate.until) = (now, now);
            }
        }
        self.gates.retain(|gate| {
            let stale = !gate.unhealthy && gate.until.plus(STALE_NS) < now;
            !stale || known(gate.key)
        });
    }
}

fn decode_gate(bytes: &[u8]) -> Option<Gate> {
    let (key, rest) = bytes.split_first_chunk::<8>()?;
    let ([tries, flags], rest) = rest.split_first_chunk::<2>()?;
    let (failed_at, rest) = rest.split_first_chunk::<8>()?;
    let (until, _) = rest.split_first_chunk::<8>()?;
    Some(Gate {
        key: u64::from_le_bytes(*key),
        tries: *tries,
        unhealthy: flags & UNHEALTHY != 0,
        failed_at: WallTime::from_ns(u64::from_le_bytes(*failed_at)),
        until: WallTime::from_ns(u64::from_le_bytes(*until)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_arch = "wasm32"))]
    use proptest::prelude::*;
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
        let mut other_format = good.clone();
        other_format[0] = 2;
        let mut unsorted = good.clone();
        unsorted[4] = 99;
        let longer = [good.clone(), vec![0]].concat();
        let shorter = good[..good.len() - 1].to_vec();
        for blob in [
            other_format,
            unsorted,
            longer,
            shorter,
            vec![1],
            vec![1, 0, 255, 255],
        ] {
            assert_eq!(Gates::decode(&blob), Gates::default(), "{blob:?}");
        }
    }

    #[test]
    fn windows_and_a_clock_that_steps_back() {
        let hour = 3_600_000_000_000;
        let gate = Gate {
            failed_at: at(hour),
            until: at(hour + 1000),
            ..Gate::open(1)
        };
        assert!(gate.backs_off(at(hour)) && gate.backs_off(at(hour + 999)));
        assert!(!gate.backs_off(at(hour + 1000)));
        assert!(
            gate.backs_off(at(hour - 1)),
            "another worker's clock reading may be a little older"
        );
        assert!(
            !gate.backs_off(at(hour / 2)),
            "a clock set back by half an hour holds nobody"
        );
    }

    #[test]
    fn verdicts_come_and_go_without_touching_back_offs() {
        let mut gates = two();
        gates.judge(&[4, 3, 4], |key| key == 9);
        assert_eq!(gates.of(9), None);
        assert!(gates.of(4).is_some_and(|gate| gate.unhealthy));
        assert!(
            gates
                .of(3)
                .is_some_and(|gate| gate.unhealthy && gate.tries == 2)
        );
        gates.judge(&[], |_| true);
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
        gates.judge(&keys, |_| false);
        assert_eq!(gates.iter().count(), ENTRIES_MAX);
        assert!(gates.of(9).is_some() && gates.of(3).is_some_and(|gate| gate.unhealthy));
        assert_eq!(Gates::decode(&gates.encode()), gates);
        gates.update(u64::MAX, |gate| gate.tries = 1);
        assert_eq!(gates.of(u64::MAX), None);
        gates.judge(&[], |_| true);
        assert_eq!(gates.iter().count(), 1);
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
