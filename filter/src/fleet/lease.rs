//! Which VM does the jobs of all: one at a time.

use crate::base::record;
use crate::base::time::WallTime;

/// The version of the record.
const VERSION: u8 = 1;
/// How long a lease holds without being renewed.
pub const LEASE_NS: u64 = 1_500_000_000;
/// A VM that has not picked for longer may be an old module's, which lives on for a stream alone.
pub const IDLE_NS: u64 = 5_000_000_000;

/// What a VM says of itself when it claims the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claimant {
    /// Which VM it is: they are numbered in the order in which they began.
    pub vm: u64,
    /// The revision it runs.
    pub revision: u64,
    /// Since when it runs that, wall clock.
    pub configured_at: WallTime,
    /// When it picked last, wall clock; 1970: never.
    pub picked_at: WallTime,
}

/// Who does the jobs of all workers: one VM at a time, until its lease runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The holder; 0 where that cannot be read.
    pub vm: u64,
    /// When it runs out, wall clock.
    pub until: WallTime,
    /// The revision that the holder runs.
    pub revision: u64,
    /// When the holder picked last, wall clock; 1970: never.
    pub picked_at: WallTime,
}

impl Lease {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let (until, picked_at) = (self.until.ns(), self.picked_at.ns());
        let fields = record::numbers(&[self.vm, until, self.revision, picked_at]);
        record::create(VERSION, &fields, 0)
    }

    /// Reads a record; `None` for one of another version or too short.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (mut fields, _) = record::open(record, VERSION)?;
        Some(Lease {
            vm: fields.u64()?,
            until: WallTime::from_ns(fields.u64()?),
            revision: fields.u64()?,
            picked_at: WallTime::from_ns(fields.u64()?),
        })
    }

    /// The lease that a VM writes now: its own, a free one, one that ran out, or one of a VM that
    /// was left behind; `None` while another VM holds it. One that would hold for longer than a
    /// lease can was written before the clock stepped back, and is free.
    pub fn claim(held: Option<Lease>, by: &Claimant, now: WallTime) -> Option<Lease> {
        let free = held.is_none_or(|held| {
            let left_ns = now.left_until(held.until, LEASE_NS.saturating_mul(2));
            held.vm == by.vm || left_ns == 0 || held.is_left_behind(by, now)
        });
        free.then_some(Lease {
            vm: by.vm,
            until: now.plus(LEASE_NS),
            revision: by.revision,
            picked_at: by.picked_at,
        })
    }

    /// Whether its holder is an older VM that picks no more, and renews it for another revision
    /// although every VM in use has had the time to take the claimant's over.
    fn is_left_behind(&self, by: &Claimant, now: WallTime) -> bool {
        self.vm < by.vm
            && self.revision != by.revision
            && is_idle(self.picked_at, now)
            && self.until.since(by.configured_at) >= LEASE_NS.saturating_mul(2)
    }
}

/// Whether a VM has not picked for so long that it may be an old module's.
pub fn is_idle(picked_at: WallTime, now: WallTime) -> bool {
    now.age_of(picked_at) >= IDLE_NS
}

/// The lease as one VM sees it: one that cannot be read is held for as long as somebody renews it.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    /// The version in shared data of a record that cannot be read, and when it was seen first.
    unreadable: Option<(u32, WallTime)>,
}

impl LeaseWatch {
    /// Who holds the lease; `version` counts the writes of the record.
    pub fn held(&mut self, record: &[u8], version: u32, now: WallTime) -> Option<Lease> {
        let lease = Lease::decode(record);
        if record.is_empty() || lease.is_some() {
            self.unreadable = None;
            return lease;
        }
        let same = self.unreadable.filter(|(seen, _)| *seen == version);
        let (_, since) = *self.unreadable.insert(same.unwrap_or((version, now)));
        Some(Lease {
            vm: 0,
            until: since.plus(LEASE_NS),
            revision: 0,
            picked_at: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: WallTime = WallTime::from_ns(1000 * LEASE_NS);

    fn claimant(vm: u64, revision: u64) -> Claimant {
        Claimant {
            vm,
            revision,
            ..Claimant::default()
        }
    }

    #[test]
    fn the_record_reads_back_and_the_corrupt_is_none() {
        let lease = Lease {
            vm: 1,
            until: WallTime::from_ns(2),
            revision: 3,
            picked_at: WallTime::from_ns(4),
        };
        let record = lease.encode();
        assert_eq!(Lease::decode(&record), Some(lease));
        for length in 0..record.len() {
            assert_eq!(Lease::decode(&record[..length]), None);
        }
    }

    #[test]
    fn one_holder_at_a_time() {
        let mine = Lease::claim(None, &claimant(1, 7), NOW).expect("free");
        assert_eq!((mine.vm, mine.until), (1, NOW.plus(LEASE_NS)));
        let claim = |vm, now| Lease::claim(Some(mine), &claimant(vm, 7), now);
        assert_eq!(claim(2, NOW.plus(LEASE_NS - 1)), None, "held");
        assert!(claim(1, NOW.plus(1)).is_some(), "renewed by its holder");
        assert!(claim(2, mine.until).is_some(), "ran out");
        let earlier = WallTime::from_ns(NOW.ns() / 2);
        assert!(claim(2, earlier).is_some(), "the clock stepped back");
    }

    #[test]
    fn a_vm_that_was_left_behind_loses_the_lease() {
        let held = Lease {
            vm: 5,
            until: NOW.plus(LEASE_NS),
            revision: 7,
            picked_at: WallTime::from_ns(NOW.ns() - IDLE_NS),
        };
        let newer = Claimant {
            configured_at: WallTime::from_ns(NOW.ns() - LEASE_NS),
            ..claimant(6, 8)
        };
        let loses = |held, by| Lease::claim(Some(held), &by, NOW).is_some();
        assert!(loses(held, newer));
        let picked_at = WallTime::from_ns(NOW.ns() - IDLE_NS + 1);
        assert!(!loses(Lease { picked_at, ..held }, newer), "it still picks");
        assert!(!loses(Lease { vm: 6, ..held }, claimant(5, 8)), "younger");
        let revision = newer.revision;
        assert!(!loses(Lease { revision, ..held }, newer), "up to date");
        let just_now = Claimant {
            configured_at: newer.configured_at.plus(1),
            ..newer
        };
        assert!(!loses(held, just_now), "it may be configured at any moment");
    }

    #[test]
    fn a_lease_that_cannot_be_read_is_held_while_somebody_renews_it() {
        let mut watch = LeaseWatch::default();
        let mut free = |record: &[u8], version, now| {
            let held = watch.held(record, version, now);
            Lease::claim(held, &claimant(1, 7), now).is_some()
        };
        let (strange, last_moment) = ([VERSION + 1, 0, 0], NOW.plus(LEASE_NS - 1));
        assert!(free(&[], 0, NOW), "nobody ever held it");
        assert!(!free(&strange, 5, NOW) && !free(&strange, 5, last_moment));
        assert!(!free(&strange, 6, last_moment), "renewed");
        let end = last_moment.plus(LEASE_NS);
        assert!(!free(&strange, 6, WallTime::from_ns(end.ns() - 1)));
        assert!(free(&strange, 6, end), "nobody renews it");
    }
}
