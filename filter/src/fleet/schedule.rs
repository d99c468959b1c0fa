//! When a filter posts to the sidecar, and from which verdicts it asks.

use super::exchange::Version;
use crate::base::time::WallTime;

/// A callout whose root was swapped away has no callback: after this the mark is void.
const MARK_NS: u64 = 4_000_000_000;
const RETRY_FIRST_NS: u64 = 100_000_000;
const RETRY_MAX_NS: u64 = 2_000_000_000;

/// The posts of one root.
#[derive(Debug, Default)]
pub struct Schedule {
    under_way: Option<UnderWay>,
    failures: u32,
    not_before: WallTime,
    /// A full set was taken in.
    has_full: bool,
}

#[derive(Debug)]
struct UnderWay {
    token: u32,
    sent_at: WallTime,
    asked: Version,
}

impl Schedule {
    /// Whether it is time: no post is under way, and the last ones did not fail just now.
    pub fn is_due(&self, now: WallTime) -> bool {
        let waits = |post: &UnderWay| now.age_of(post.sent_at) < MARK_NS;
        let pauses = now.left_until(self.not_before, RETRY_MAX_NS) > 0;
        !pauses && !self.under_way.as_ref().is_some_and(waits)
    }

    /// What to ask from while these verdicts stand. A root asks for a full set first: the one that
    /// stands may have been taken in by one that did not know all clusters of this configuration,
    /// and so could not clear those which the set does not name.
    pub fn have(&self, stands: Version) -> Version {
        if self.has_full {
            stands
        } else {
            Version::default()
        }
    }

    /// Notes that a full set is in the gates.
    pub fn took_full(&mut self) {
        self.has_full = true;
    }

    /// Notes a post that was sent when the verdicts `asked` stood.
    pub fn sent(&mut self, token: u32, asked: Version, now: WallTime) {
        self.under_way = Some(UnderWay {
            token,
            sent_at: now,
            asked,
        });
    }

    /// The verdicts that stood when the post of this token was sent; `None` for one that was given
    /// up before.
    pub fn answered(&mut self, token: u32) -> Option<Version> {
        let post = self.under_way.take_if(|post| post.token == token)?;
        Some(post.asked)
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        (self.failures, self.not_before) = (0, WallTime::default());
    }

    /// Notes a failure; whether it is the first in a row.
    pub fn failed(&mut self, now: WallTime) -> bool {
        let wait_ns = RETRY_FIRST_NS
            .checked_shl(self.failures.min(8))
            .unwrap_or(RETRY_MAX_NS);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus(wait_ns.min(RETRY_MAX_NS));
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: WallTime = WallTime::from_ns(3600 * SECOND);

    fn version(counter: u64) -> Version {
        Version {
            epoch: 1,
            counter,
            revision: 1,
        }
    }

    #[test]
    fn one_post_at_a_time_until_its_mark_is_void() {
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(HOUR));
        schedule.sent(7, version(5), HOUR);
        assert!(!schedule.is_due(HOUR) && !schedule.is_due(HOUR.plus(MARK_NS - 1)));
        assert!(schedule.is_due(HOUR.plus(MARK_NS)), "no callback will come");
        assert_eq!(schedule.answered(6), None, "given up before");
        assert!(!schedule.is_due(HOUR));
        assert_eq!(schedule.answered(7), Some(version(5)));
        assert_eq!(schedule.answered(7), None, "once");
        assert!(schedule.is_due(HOUR));
    }

    #[test]
    fn hc_23_a_root_asks_for_a_full_set_first() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.have(version(5)), Version::default());
        schedule.took_full();
        assert_eq!(schedule.have(version(5)), version(5));
    }

    #[test]
    fn failures_wait_longer_and_a_success_forgets_them() {
        let mut schedule = Schedule::default();
        let mut waits = Vec::new();
        for nth in 0..12 {
            assert_eq!(schedule.failed(HOUR), nth == 0, "told once");
            let waits_until = |wait: &u64| schedule.is_due(HOUR.plus(*wait));
            let step = RETRY_FIRST_NS;
            waits.extend(
                (step..=RETRY_MAX_NS)
                    .step_by(step as usize)
                    .find(waits_until),
            );
        }
        let tenths: Vec<u64> = waits.iter().map(|wait| wait / RETRY_FIRST_NS).collect();
        assert_eq!(tenths, [1, 2, 4, 8, 16, 20, 20, 20, 20, 20, 20, 20]);
        schedule.succeeded();
        assert!(schedule.is_due(HOUR) && schedule.failed(HOUR));
    }

    #[test]
    fn a_clock_that_steps_back_stops_nothing() {
        let mut schedule = Schedule::default();
        schedule.sent(7, version(5), HOUR);
        assert!(
            !schedule.is_due(WallTime::from_ns(HOUR.ns() - SECOND)),
            "a small step is none"
        );
        assert!(schedule.is_due(WallTime::from_ns(HOUR.ns() / 2)));
        schedule.answered(7);
        schedule.failed(HOUR);
        assert!(
            !schedule.is_due(WallTime::from_ns(HOUR.ns() - SECOND)),
            "a small step is none"
        );
        assert!(schedule.is_due(WallTime::from_ns(HOUR.ns() / 2)));
    }
}
