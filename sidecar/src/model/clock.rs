//! Clocks: this machine's, where no store has one of its own, and the two that are read at one moment.

use std::time::{SystemTime, UNIX_EPOCH};

/// The earliest and the latest time that can be one, ms since 1970: 1973 and 33658. Seconds, micro- and
/// nanoseconds of our days lie outside.
const PLAUSIBLE_MS: std::ops::RangeInclusive<u64> = 100_000_000_000..=1_000_000_000_000_000;

/// ms since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Whether this can be a time in ms since 1970, and not in another unit.
pub fn is_plausible(ms: u64) -> bool {
    PLAUSIBLE_MS.contains(&ms)
}

/// What two clocks say at one moment. What is written as a time is compared with the store's, how long
/// something lasts is told by ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The store's clock, ms since 1970. Somebody may set it.
    pub store: u64,
    /// Our own, ms since some start. It never steps.
    pub steady: u64,
}

impl Moment {
    /// How far the store's clock was set ahead between this moment and a later one, ms; negative: back.
    pub fn step_to(self, later: Moment) -> i64 {
        let passed = later.steady.saturating_sub(self.steady);
        let expected = self.store.saturating_add(passed);
        later
            .store
            .cast_signed()
            .saturating_sub(expected.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_one_clock_says_and_the_other_does_not() {
        let at = |store, steady| Moment { store, steady };
        let start = at(1_000_000, 50);
        for (later, expected) in [
            (at(1_000_000, 50), 0),
            (at(1_000_700, 750), 0),
            (at(8_200_700, 750), 7_200_000),
            (at(700, 750), -1_000_000),
        ] {
            assert_eq!(start.step_to(later), expected, "{later:?}");
        }
    }

    #[test]
    fn only_milliseconds_are_plausible() {
        let now = 1_780_000_000_000;
        assert!(is_plausible(now));
        for odd in [0, 1, now / 1000, now * 1000, now * 1_000_000, u64::MAX] {
            assert!(!is_plausible(odd), "{odd}");
        }
    }
}
