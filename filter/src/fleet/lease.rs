//! Which VM does the jobs of all: one at a time.

use crate::base::time::WallTime;

/// The first byte of the record; another one is another format.
const FORMAT: u8 = 1;
/// How long a lease holds without being renewed.
pub const LEASE_NS: u64 = 1_500_000_000;

/// Who does the jobs of all workers: one VM at a time, until its lease runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The owner.
    pub vm: u64,
    /// When it runs out, wall clock.
    pub until: WallTime,
}

impl Lease {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.vm.to_le_bytes());
        bytes.extend_from_slice(&self.until.ns().to_le_bytes());
        bytes
    }

    /// Reads a record; `None` for one of another format or length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, numbers @ ..] = bytes else {
            return None;
        };
        let (vm, until) = numbers.split_first_chunk::<8>()?;
        let until: &[u8; 8] = until.try_into().ok()?;
        Some(Lease {
            vm: u64::from_le_bytes(*vm),
            until: WallTime::from_ns(u64::from_le_bytes(*until)),
        })
    }

    /// The lease that `vm` writes now: its own, a free one or one that ran out; `None` while
    /// another VM holds it. One that would hold for longer than a lease can was written before the
    /// clock stepped back, and is free.
    pub fn claim(held: Option<Lease>, vm: u64, now: WallTime) -> Option<Lease> {
        let longest_ns = LEASE_NS.saturating_mul(2);
        let free =
            held.is_none_or(|held| held.vm == vm || now.left_until(held.until, longest_ns) == 0);
        let until = now.plus(LEASE_NS);
        free.then_some(Lease { vm, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_record_reads_back_and_the_corrupt_is_none() {
        let until = WallTime::from_ns(2);
        let lease = Lease { vm: 1, until };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        for bad in [&[][..], &[1], &[1; 16], &[1; 18], &[2; 17]] {
            assert_eq!(Lease::decode(bad), None);
        }
    }

    #[test]
    fn one_owner_at_a_time() {
        let now = WallTime::from_ns(10 * LEASE_NS);
        let until = now.plus(LEASE_NS);
        let mine = Lease::claim(None, 1, now).expect("free");
        assert_eq!(mine, Lease { vm: 1, until });
        let claim = |vm, now| Lease::claim(Some(mine), vm, now);
        assert_eq!(claim(2, now.plus(LEASE_NS - 1)), None, "held");
        assert!(claim(1, now.plus(1)).is_some(), "renewed by its owner");
        assert!(claim(2, until).is_some(), "ran out");
        let earlier = WallTime::from_ns(now.ns() / 2);
        assert!(claim(2, earlier).is_some(), "the clock stepped back");
    }
}
