//! When each target is probed. Times are distances from the start of the sidecar.
//!
//! First probes are spread so that a new registry does not probe all at one instant, and each
//! target keeps its own fixed jitter, so that targets never fall into step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::TargetNumber;

/// First probes are spread over at most this long.
const SPREAD_MAX: Duration = Duration::from_secs(1);

/// How long a target's first probe waits (HC-8): under `min(interval, 1 s)`. `draw` is random.
pub fn first_delay(interval: Duration, draw: u64) -> Duration {
    share(interval.min(SPREAD_MAX), draw)
}

/// From one probe's start to the next one's: the interval and 0 to 20 % of it. `draw` is random
/// but the same for every probe of a target.
pub fn gap(interval: Duration, draw: u64) -> Duration {
    interval.saturating_add(share(interval / 5, draw))
}

/// A part of `whole`, from nothing to almost all of it.
fn share(whole: Duration, draw: u64) -> Duration {
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(draw % micros.max(1))
}

/// Who is due when. A target whose probe is under way is not in it, so it cannot be probed twice
/// at a time (HC-9).
#[derive(Debug, Default)]
pub struct Schedule {
    order: BTreeSet<(Duration, TargetNumber)>,
    times: BTreeMap<TargetNumber, Duration>,
}

impl Schedule {
    /// Puts a target at a time, whatever its time was before.
    pub fn set(&mut self, target: TargetNumber, at: Duration) {
        self.remove(target);
        self.times.insert(target, at);
        self.order.insert((at, target));
    }

    /// Takes a target out; returns the time it stood at.
    pub fn remove(&mut self, target: TargetNumber) -> Option<Duration> {
        let at = self.times.remove(&target)?;
        self.order.remove(&(at, target));
        Some(at)
    }

    /// Takes out whoever has been due longest, with the time it was due.
    pub fn pop(&mut self, now: Duration) -> Option<(TargetNumber, Duration)> {
        let (at, target) = self.order.first().copied().filter(|(at, _)| *at <= now)?;
        self.remove(target);
        Some((target, at))
    }

    /// The next time at which someone is due.
    pub fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn hc_8_gaps_are_the_interval_and_up_to_a_fifth(ms in 10_u64..3_600_000, draw: u64) {
            let interval = Duration::from_millis(ms);
            let gap = gap(interval, draw);
            prop_assert!(interval <= gap && gap <= interval * 6 / 5);
        }

        #[test]
        fn hc_8_first_probes_start_within_a_second_and_the_interval(ms in 10_u64..9_000, draw: u64) {
            let interval = Duration::from_millis(ms);
            prop_assert!(first_delay(interval, draw) < interval.min(SECOND));
        }
    }

    #[test]
    fn whoever_waits_longest_is_first() {
        let mut schedule = Schedule::default();
        schedule.set(1, 3 * SECOND);
        schedule.set(2, 2 * SECOND);
        schedule.set(3, 9 * SECOND);
        assert_eq!(schedule.next(), Some(2 * SECOND));
        assert_eq!(schedule.pop(5 * SECOND), Some((2, 2 * SECOND)));
        assert_eq!(schedule.pop(5 * SECOND), Some((1, 3 * SECOND)));
        assert_eq!(schedule.pop(5 * SECOND), None);
    }

    #[test]
    fn a_target_stands_in_it_once() {
        let mut schedule = Schedule::default();
        schedule.set(1, 9 * SECOND);
        schedule.set(1, 2 * SECOND);
        assert_eq!(schedule.pop(9 * SECOND), Some((1, 2 * SECOND)));
        assert_eq!(schedule.pop(9 * SECOND), None);
        schedule.set(1, SECOND);
        schedule.remove(1);
        assert_eq!(schedule.next(), None);
    }
}
