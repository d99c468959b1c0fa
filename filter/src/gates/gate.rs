//! What is held against one backend, and how that stands in a blob of gates.

use super::standing::Standing;
use crate::base::time::WallTime;

/// Bytes of an entry that this module knows: key, tries, flags, the failure's time, the window's end,
/// the time of the verdict.
pub(super) const KNOWN: usize = 34;
/// Bytes of an entry: what this module knows, and room for the end of a cooldown, its count, and
/// more flags. Newer modules use the room or append; what they hold there is left alone.
pub(super) const ENTRY: usize = 44;
const UNHEALTHY: u8 = 1;
const DOWN: u8 = 2;

/// What is held against one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// [`crate::base::hash::backend_key`].
    pub key: u64,
    /// Failures counted since the last success.
    pub tries: u8,
    /// They were as many as count, which was told (RT-5); until its next success.
    pub down: bool,
    /// The sidecar's verdict.
    pub unhealthy: bool,
    /// When the last counted failure happened, wall clock.
    pub failed_at: WallTime,
    /// When its window ends, wall clock.
    pub until: WallTime,
    /// When the verdict was taken in, wall clock; 1970 while it is healthy.
    pub unhealthy_since: WallTime,
}

impl Gate {
    /// A gate that holds nothing against the backend yet.
    pub fn open(key: u64) -> Self {
        Gate {
            key,
            tries: 0,
            down: false,
            unhealthy: false,
            failed_at: WallTime::default(),
            until: WallTime::default(),
            unhealthy_since: WallTime::default(),
        }
    }

    /// Takes a verdict in.
    pub fn judge(&mut self, unhealthy: bool, now: WallTime) {
        if unhealthy != self.unhealthy {
            self.unhealthy = unhealthy;
            self.unhealthy_since = if unhealthy { now } else { WallTime::default() };
        }
    }

    /// Forgets the failures, and keeps the verdict.
    pub fn forgive(&mut self) {
        *self = Gate {
            unhealthy: self.unhealthy,
            unhealthy_since: self.unhealthy_since,
            ..Gate::open(self.key)
        };
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

    /// The verdict on its backend.
    pub fn standing(&self, now: WallTime) -> Standing {
        match (self.backs_off(now), self.unhealthy) {
            (true, _) => Standing::BackingOff,
            (false, true) => Standing::Unhealthy,
            (false, false) => Standing::Ready,
        }
    }

    /// Whether the backend is out of service: unhealthy, or all its tries failed.
    pub fn is_out(&self) -> bool {
        self.unhealthy || self.down
    }

    pub(super) fn read(entry: &[u8]) -> Option<Self> {
        let (key, rest) = entry.split_first_chunk::<8>()?;
        let ([tries, flags], rest) = rest.split_first_chunk::<2>()?;
        let (failed_at, rest) = rest.split_first_chunk::<8>()?;
        let (until, rest) = rest.split_first_chunk::<8>()?;
        let (since, _) = rest.split_first_chunk::<8>()?;
        Some(Gate {
            key: u64::from_le_bytes(*key),
            tries: *tries,
            down: flags & DOWN != 0,
            unhealthy: flags & UNHEALTHY != 0,
            failed_at: WallTime::from_ns(u64::from_le_bytes(*failed_at)),
            until: WallTime::from_ns(u64::from_le_bytes(*until)),
            unhealthy_since: WallTime::from_ns(u64::from_le_bytes(*since)),
        })
    }

    /// Puts it into its entry; what newer modules hold there stays.
    pub(super) fn write(&self, entry: &mut [u8]) {
        let flags = (flags(entry) & !(UNHEALTHY | DOWN))
            | if self.unhealthy { UNHEALTHY } else { 0 }
            | if self.down { DOWN } else { 0 };
        let known = self.key.to_le_bytes().into_iter();
        let known = known.chain([self.tries, flags]);
        let known = known.chain(self.failed_at.ns().to_le_bytes());
        let known = known.chain(self.until.ns().to_le_bytes());
        let known = known.chain(self.unhealthy_since.ns().to_le_bytes());
        for (place, byte) in entry.iter_mut().zip(known) {
            *place = byte;
        }
    }
}

/// Whether an entry holds nothing against its backend, as far as any module can tell.
pub(super) fn holds_nothing(entry: &[u8]) -> bool {
    let tries = entry.get(8).copied().unwrap_or(0);
    let unknown = entry.get(KNOWN..).unwrap_or_default();
    tries == 0 && flags(entry) == 0 && unknown.iter().all(|byte| *byte == 0)
}

fn flags(entry: &[u8]) -> u8 {
    entry.get(9).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn forgiven_failures_leave_the_verdict_and_its_time() {
        let mut gate = Gate::open(1);
        gate.judge(true, WallTime::from_ns(7));
        let judged = gate;
        (gate.tries, gate.until) = (3, WallTime::from_ns(9));
        gate.forgive();
        assert_eq!(gate, judged);
    }

    #[test]
    fn windows_and_a_clock_that_steps_back() {
        let (at, hour) = (WallTime::from_ns, 3_600_000_000_000);
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
    fn a_newer_modules_flags_stay_and_hold_the_entry() {
        let mut entry = vec![0; ENTRY];
        entry[9] = 0x80 | UNHEALTHY;
        Gate::open(1).write(&mut entry);
        assert_eq!(entry[9], 0x80);
        assert!(!holds_nothing(&entry));
    }
}
