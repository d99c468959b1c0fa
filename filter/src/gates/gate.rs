//! What is held against one backend, and how that stands in a blob of gates.

use super::standing::Standing;
use crate::base::hash::BackendKey;
use crate::base::time::WallTime;

/// Bytes of an entry: key, tries, flags, the failure's time, the window's end, the time of the verdict,
/// the cooldown's end, its count, room for more flags, the time of the answer that counted last.
/// Newer modules use the room or append; what they hold there is left alone.
pub(super) const ENTRY: usize = 52;
/// Bytes of an entry that ends before that time: while no backend of the cluster cools down.
pub(super) const ENTRY_MIN: usize = 44;
/// Where the fields stand.
const TRIES: usize = 8;
const FLAGS: usize = 9;
const FAILED_AT: usize = 10;
const UNTIL: usize = 18;
const SINCE: usize = 26;
const COOLDOWN: usize = 34;
const COUNT: usize = 42;
/// The room.
const ROOM: usize = 43;
const COOLED_AT: usize = 44;
const UNHEALTHY: u8 = 1;
const DOWN: u8 = 2;
const EJECTED: u8 = 4;
const ON_TRIAL: u8 = 8;
const RECOVERED: u8 = 16;

/// What is held against one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// [`crate::base::hash::backend_key`].
    pub key: BackendKey,
    /// Failures counted since the last success.
    pub tries: u8,
    /// They were as many as count, which was told (RT-5); until its next success.
    pub down: bool,
    /// The last of them was none that no connection could be made.
    pub ejected: bool,
    /// Its window is over, and one request tries it: until that has told, or the trial's time is up, it is
    /// held back from all others. Then these count for the trial: when it began, and its end.
    pub on_trial: bool,
    /// The sidecar's verdict.
    pub unhealthy: bool,
    /// When the last counted failure happened, wall clock.
    pub failed_at: WallTime,
    /// When its window ends, wall clock.
    pub until: WallTime,
    /// When the verdict was taken in, wall clock; 1970 while it is healthy.
    pub unhealthy_since: WallTime,
    /// When its backend came back, wall clock: healthy again, or answering after all tries had failed. 1970
    /// where that is long ago, or nobody asks (`slowStart`).
    pub recovered_at: WallTime,
    /// Answers that cooled it down since the last success.
    pub cooldowns: u8,
    /// When the last of them that counted came, wall clock.
    pub cooled_at: WallTime,
    /// When its cooldown ends, wall clock; 1970 while nothing is known of any.
    pub cools_until: WallTime,
}

impl Gate {
    /// A gate that holds nothing against the backend yet.
    pub fn open(key: BackendKey) -> Self {
        Gate {
            key,
            tries: 0,
            down: false,
            ejected: false,
            on_trial: false,
            unhealthy: false,
            failed_at: WallTime::default(),
            until: WallTime::default(),
            unhealthy_since: WallTime::default(),
            recovered_at: WallTime::default(),
            cooldowns: 0,
            cooled_at: WallTime::default(),
            cools_until: WallTime::default(),
        }
    }

    /// Takes a verdict in. One that has become good again has no cooldowns behind it (RT-14).
    pub fn judge(&mut self, unhealthy: bool, now: WallTime) {
        if unhealthy != self.unhealthy {
            self.unhealthy = unhealthy;
            self.unhealthy_since = if unhealthy { now } else { WallTime::default() };
            self.recovered_at = WallTime::default();
            self.cooldowns = if unhealthy { self.cooldowns } else { 0 };
        }
    }

    /// Lets one request try the backend. What was picked before it tells nothing of the time after it.
    pub fn put_on_trial(&mut self, now: WallTime, trial_ns: u64) {
        self.on_trial = true;
        self.failed_at = WallTime::from_ns(now.ns().saturating_sub(1));
        self.until = now.plus(trial_ns);
    }

    /// Forgets the failures, and keeps the verdict and the cooldown.
    pub fn forgive(&mut self) {
        (self.tries, self.down, self.ejected) = (0, false, false);
        self.on_trial = false;
        (self.failed_at, self.until) = Default::default();
    }

    /// Forgets the cooldown.
    pub fn warm_up(&mut self) {
        self.cooldowns = 0;
        (self.cooled_at, self.cools_until) = Default::default();
    }

    /// Whether the backend is inside its back-off window.
    pub fn backs_off(&self, now: WallTime) -> bool {
        !self.on_trial && self.is_inside(now)
    }

    /// Whether one request is trying it.
    pub fn is_on_trial(&self, now: WallTime) -> bool {
        self.on_trial && self.is_inside(now)
    }

    /// Whether its windows are over, and nothing has told since whether it is well again.
    pub fn awaits_trial(&self, now: WallTime) -> bool {
        self.has_counts() && !self.is_inside(now) && !self.cools(now)
    }

    /// Whether its back-off window or its trial is not over.
    pub fn is_inside(&self, now: WallTime) -> bool {
        now < self.until && !self.is_of_the_future(now)
    }

    /// Whether its failure was counted before the clock stepped back: nothing can be later than it,
    /// so any success clears it.
    pub fn is_of_the_future(&self, now: WallTime) -> bool {
        now.stepped_back_since(self.failed_at)
    }

    /// Whether the backend is inside its cooldown.
    pub fn cools(&self, now: WallTime) -> bool {
        now < self.cools_until && !now.stepped_back_since(self.cooled_at)
    }

    /// How long its back-off and its cooldown still last, nanoseconds.
    pub fn wait_ns(&self, now: WallTime) -> u64 {
        let left = |inside: bool, end: WallTime| if inside { end.since(now) } else { 0 };
        let cooldown = left(self.cools(now), self.cools_until);
        left(self.is_inside(now), self.until).max(cooldown)
    }

    /// Whether something is counted against it that a success ends.
    pub fn has_counts(&self) -> bool {
        self.tries > 0 || self.cooldowns > 0 || self.on_trial
    }

    /// The verdict on its backend.
    pub fn standing(&self, now: WallTime) -> Standing {
        if self.backs_off(now) {
            Standing::BackingOff
        } else if self.cools(now) {
            Standing::CoolingDown
        } else if self.is_on_trial(now) {
            Standing::OnTrial
        } else if self.unhealthy {
            Standing::Unhealthy
        } else {
            Standing::Ready
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
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (cools_until, rest) = rest.split_first_chunk::<8>()?;
        let ([cooldowns, _], rest) = rest.split_first_chunk::<2>()?;
        let unhealthy = flags & UNHEALTHY != 0;
        let since = WallTime::from_ns(u64::from_le_bytes(*since));
        let cooled_at = rest.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        Some(Gate {
            key: BackendKey(u64::from_le_bytes(*key)),
            tries: *tries,
            down: flags & DOWN != 0,
            ejected: flags & EJECTED != 0,
            on_trial: flags & ON_TRIAL != 0,
            unhealthy,
            failed_at: WallTime::from_ns(u64::from_le_bytes(*failed_at)),
            until: WallTime::from_ns(u64::from_le_bytes(*until)),
            unhealthy_since: if unhealthy {
                since
            } else {
                WallTime::default()
            },
            recovered_at: match flags & (RECOVERED | UNHEALTHY) {
                RECOVERED => since,
                _ => WallTime::default(),
            },
            cooldowns: *cooldowns,
            cooled_at: WallTime::from_ns(cooled_at),
            cools_until: WallTime::from_ns(u64::from_le_bytes(*cools_until)),
        })
    }

    /// Puts it into its entry; what newer modules hold there stays.
    pub(super) fn write(&self, entry: &mut [u8]) {
        let recovered = !self.unhealthy && self.recovered_at > WallTime::default();
        let flags = (byte(entry, FLAGS) & !(UNHEALTHY | DOWN | EJECTED | ON_TRIAL | RECOVERED))
            | if self.unhealthy { UNHEALTHY } else { 0 }
            | if self.down { DOWN } else { 0 }
            | if self.ejected { EJECTED } else { 0 }
            | if self.on_trial { ON_TRIAL } else { 0 }
            | if recovered { RECOVERED } else { 0 };
        set(entry, 0, &self.key.0.to_le_bytes());
        set(entry, TRIES, &[self.tries, flags]);
        set(entry, COUNT, &[self.cooldowns]);
        for (place, time) in [
            (FAILED_AT, self.failed_at),
            (UNTIL, self.until),
            (SINCE, self.unhealthy_since.max(self.recovered_at)),
            (COOLDOWN, self.cools_until),
            (COOLED_AT, self.cooled_at),
        ] {
            set(entry, place, &time.ns().to_le_bytes());
        }
    }
}

/// Whether an entry holds nothing against its backend, as far as any module can tell.
pub(super) fn holds_nothing(entry: &[u8]) -> bool {
    let unknown = entry.get(ENTRY..).unwrap_or_default();
    let cooldown = entry.get(COOLDOWN..=ROOM).unwrap_or_default();
    let mut held = cooldown.iter().chain(unknown);
    byte(entry, TRIES) == 0 && byte(entry, FLAGS) == 0 && held.all(|byte| *byte == 0)
}

/// Puts bytes at a place of an entry that has room for them.
fn set(entry: &mut [u8], place: usize, bytes: &[u8]) {
    if let Some(field) = entry.get_mut(place..place.saturating_add(bytes.len())) {
        field.copy_from_slice(bytes);
    }
}

fn byte(entry: &[u8], place: usize) -> u8 {
    entry.get(place).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn forgiven_failures_leave_the_verdict_and_its_time() {
        let mut gate = Gate::open(BackendKey(1));
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
            ..Gate::open(BackendKey(1))
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
    fn a_trial_is_written_and_ends_with_its_time() {
        let at = WallTime::from_ns;
        let mut gate = Gate {
            tries: 2,
            ejected: true,
            ..Gate::open(BackendKey(1))
        };
        assert!(gate.awaits_trial(at(5)));
        gate.put_on_trial(at(5), 4);
        assert_eq!((gate.failed_at, gate.until), (at(4), at(9)));
        let mut entry = vec![0; ENTRY_MIN];
        gate.write(&mut entry);
        assert_eq!(Gate::read(&entry), Some(gate));
        assert!(gate.is_on_trial(at(8)) && !gate.backs_off(at(8)) && !gate.awaits_trial(at(8)));
        assert_eq!(gate.standing(at(8)), Standing::OnTrial);
        assert!(!gate.is_on_trial(at(9)) && gate.awaits_trial(at(9)));
        gate.forgive();
        gate.write(&mut entry);
        assert!(holds_nothing(&entry));
    }

    #[test]
    fn a_newer_modules_flags_stay_and_hold_the_entry() {
        let mut entry = vec![0; ENTRY];
        entry[FLAGS] = 0x80 | UNHEALTHY;
        Gate::open(BackendKey(1)).write(&mut entry);
        assert_eq!(entry[FLAGS], 0x80);
        assert!(!holds_nothing(&entry));
        (entry[FLAGS], entry[ROOM]) = (0, 1);
        Gate::open(BackendKey(1)).write(&mut entry);
        assert!(!holds_nothing(&entry));
        entry[ROOM] = 0;
        assert!(holds_nothing(&entry));
    }

    #[test]
    fn a_cooldown_is_held_for_as_long_as_its_count_or_its_end_matter() {
        let at = WallTime::from_ns;
        let mut gate = Gate::open(BackendKey(1));
        (gate.cooldowns, gate.cooled_at, gate.cools_until) = (2, at(5), at(9));
        let written = |gate: &Gate, size: usize| {
            let mut entry = vec![0; size];
            gate.write(&mut entry);
            entry
        };
        assert_eq!(Gate::read(&written(&gate, ENTRY)), Some(gate));
        let short = Gate {
            cooled_at: at(0),
            ..gate
        };
        assert_eq!(Gate::read(&written(&gate, ENTRY_MIN)), Some(short));
        assert!(gate.cools(at(8)) && !gate.cools(at(9)));
        gate.judge(true, at(6));
        assert_eq!(gate.standing(at(8)), Standing::CoolingDown);
        gate.judge(false, at(7));
        assert_eq!((gate.cooldowns, gate.cools_until), (0, at(9)), "RT-14");
        assert!(!holds_nothing(&written(&gate, ENTRY)));
        gate.warm_up();
        assert!(holds_nothing(&written(&gate, ENTRY)));
    }

    #[test]
    fn a_cooldown_from_before_the_clock_stepped_back_holds_nobody() {
        let (at, hour) = (WallTime::from_ns, 3_600_000_000_000);
        let gate = Gate {
            cooled_at: at(hour),
            cools_until: at(hour + 1000),
            ..Gate::open(BackendKey(1))
        };
        assert!(gate.cools(at(hour - 1)) && !gate.cools(at(hour / 2)));
        assert_eq!(gate.wait_ns(at(hour)), 1000);
    }
}
