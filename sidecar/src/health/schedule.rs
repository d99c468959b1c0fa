//! When each target is probed. Times are distances from the start of the sidecar.
//!
//! First probes are spread so that a new registry does not probe all at one instant, and each
//! target keeps its own fixed jitter, so that targets never fall into step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::target::TargetNumber;

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
/// at a time (HC-9). Each cluster has a queue of its own, so that one whose probes take long delays
/// no other's.
#[derive(Debug, Default)]
pub struct Schedule {
    queues: BTreeMap<Arc<str>, BTreeSet<(Duration, TargetNumber)>>,
    /// When the first of each queue is due.
    heads: BTreeSet<(Duration, Arc<str>)>,
    times: BTreeMap<TargetNumber, (Duration, Arc<str>)>,
}

impl Schedule {
    /// Puts a target of a cluster at a time, whatever its time was before.
    pub fn set(&mut self, cluster: &Arc<str>, target: TargetNumber, at: Duration) {
        self.remove(target);
        self.times.insert(target, (at, Arc::clone(cluster)));
        self.change(cluster, |queue| queue.insert((at, target)));
    }

    /// Takes a target out; returns the time it stood at.
    pub fn remove(&mut self, target: TargetNumber) -> Option<Duration> {
        let (at, cluster) = self.times.remove(&target)?;
        self.change(&cluster, |queue| queue.remove(&(at, target)));
        Some(at)
    }

    /// Takes out whoever has been due longest, with the time it was due: of the cluster that has
    /// the fewest probes under way, as `under_way` says; `None` there: it may have no more.
    pub fn pop(
        &mut self,
        now: Duration,
        under_way: impl Fn(&str) -> Option<usize>,
    ) -> Option<(TargetNumber, Duration)> {
        let due = self.heads.iter().take_while(|(at, _)| *at <= now);
        let may = due.filter_map(|(at, cluster)| Some((under_way(cluster)?, *at, cluster)));
        let (_, _, cluster) = may.min()?;
        let (at, target) = self.queues.get(cluster)?.first().copied()?;
        self.remove(target);
        Some((target, at))
    }

    /// The next time at which someone is due of a cluster that may have more probes under way.
    pub fn next(&self, may: impl Fn(&str) -> bool) -> Option<Duration> {
        let mut heads = self.heads.iter();
        heads.find(|(_, cluster)| may(cluster)).map(|(at, _)| *at)
    }

    /// Changes a cluster's queue, and keeps its head where it belongs.
    fn change(
        &mut self,
        cluster: &Arc<str>,
        act: impl FnOnce(&mut BTreeSet<(Duration, TargetNumber)>) -> bool,
    ) {
        let queue = self.queues.entry(Arc::clone(cluster)).or_default();
        let head = |queue: &BTreeSet<(Duration, TargetNumber)>| queue.first().map(|(at, _)| *at);
        let before = head(queue);
        act(queue);
        let after = head(queue);
        if queue.is_empty() {
            self.queues.remove(cluster);
        }
        if before != after {
            if let Some(at) = before {
                self.heads.remove(&(at, Arc::clone(cluster)));
            }
            self.heads.extend(after.map(|at| (at, Arc::clone(cluster))));
        }
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

    const NONE: fn(&str) -> Option<usize> = |_| Some(0);

    #[test]
    fn whoever_waits_longest_is_first() {
        let (mut schedule, cluster) = (Schedule::default(), "a".into());
        schedule.set(&cluster, 1, 3 * SECOND);
        schedule.set(&cluster, 2, 2 * SECOND);
        schedule.set(&cluster, 3, 9 * SECOND);
        assert_eq!(schedule.next(|_| true), Some(2 * SECOND));
        assert_eq!(schedule.pop(5 * SECOND, NONE), Some((2, 2 * SECOND)));
        assert_eq!(schedule.pop(5 * SECOND, NONE), Some((1, 3 * SECOND)));
        assert_eq!(schedule.pop(5 * SECOND, NONE), None);
    }

    #[test]
    fn a_target_stands_in_it_once() {
        let (mut schedule, cluster) = (Schedule::default(), "a".into());
        schedule.set(&cluster, 1, 9 * SECOND);
        schedule.set(&cluster, 1, 2 * SECOND);
        assert_eq!(schedule.pop(9 * SECOND, NONE), Some((1, 2 * SECOND)));
        assert_eq!(schedule.pop(9 * SECOND, NONE), None);
        schedule.set(&cluster, 1, SECOND);
        schedule.remove(1);
        assert_eq!(schedule.next(|_| true), None);
        assert!(schedule.queues.is_empty() && schedule.heads.is_empty());
    }

    #[test]
    fn of_those_that_are_due_the_cluster_with_the_fewest_under_way_is_first() {
        let mut schedule = Schedule::default();
        let (long, short, full) = ("long".into(), "short".into(), "full".into());
        schedule.set(&full, 1, SECOND);
        schedule.set(&long, 2, 2 * SECOND);
        schedule.set(&short, 3, 4 * SECOND);
        schedule.set(&short, 4, 3 * SECOND);
        let under_way = |cluster: &str| match cluster {
            "long" => Some(7),
            "short" => Some(6),
            _ => None,
        };
        assert_eq!(
            schedule.next(|it| under_way(it).is_some()),
            Some(2 * SECOND)
        );
        let mut taken = || {
            schedule
                .pop(5 * SECOND, under_way)
                .map(|(target, _)| target)
        };
        assert_eq!([taken(), taken(), taken()], [Some(4), Some(3), Some(2)]);
        assert_eq!(taken(), None, "who may have no more waits");
        assert_eq!(schedule.next(|_| true), Some(SECOND));
    }
}
