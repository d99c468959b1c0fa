//! When a filter posts to the sidecar, and what an answer is worth by the time it comes.
//!
//! An answer speaks of the verdicts that stood when it was asked for. Others may stand by then: the
//! sidecar was silent and they ran out, or another VM had the lease meanwhile.

use crate::fleet::exchange::Version;
use crate::fleet::heartbeat::Heard;

/// A callout whose root was swapped away has no callback: after this the mark is void.
const MARK_NS: u64 = 4_000_000_000;
const RETRY_FIRST_NS: u64 = 100_000_000;
const RETRY_MAX_NS: u64 = 2_000_000_000;

/// The posts of one root.
#[derive(Debug, Default)]
pub struct Posting {
    under_way: Option<UnderWay>,
    failures: u32,
    not_before_ns: u64,
    /// A full set was taken in.
    has_full: bool,
}

#[derive(Debug)]
struct UnderWay {
    token: u32,
    sent_ns: u64,
    asked: Version,
}

impl Posting {
    /// Whether it is time: no post is under way, and the last ones did not fail just now. Times that
    /// are further ahead than they can be were noted before the clock stepped back, and are void.
    pub fn is_due(&self, now_ns: u64) -> bool {
        let waits = |post: &UnderWay| now_ns.abs_diff(post.sent_ns) < MARK_NS;
        let pause_ns = self.not_before_ns.saturating_sub(now_ns);
        let pauses = (1..=RETRY_MAX_NS).contains(&pause_ns);
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
    pub fn sent(&mut self, token: u32, asked: Version, now_ns: u64) {
        self.under_way = Some(UnderWay {
            token,
            sent_ns: now_ns,
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
        (self.failures, self.not_before_ns) = (0, 0);
    }

    /// Notes a failure; whether it is the first in a row.
    pub fn failed(&mut self, now_ns: u64) -> bool {
        let wait_ns = RETRY_FIRST_NS
            .checked_shl(self.failures.min(8))
            .unwrap_or(RETRY_MAX_NS);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ns = now_ns.saturating_add(wait_ns.min(RETRY_MAX_NS));
        self.failures == 1
    }
}

/// What is heard once an answer that was asked for from `asked` is in the gates; `None` when other
/// verdicts stand by now: then the answer says nothing of them, and must not come into the gates.
pub fn hear(stands: Heard, asked: Version, told: Version, now_ns: u64) -> Option<Heard> {
    (stands.version == asked).then_some(Heard {
        version: told,
        at_ns: now_ns,
    })
}

/// What is heard when somebody changed it while the gates were changed: nobody can say which
/// verdicts stand in them, so the full set is asked for next.
pub fn outrun(now_ns: u64) -> Heard {
    Heard {
        version: Version::default(),
        at_ns: now_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;

    fn version(counter: u64) -> Version {
        Version {
            epoch: 1,
            counter,
            revision: 1,
        }
    }

    #[test]
    fn one_post_at_a_time_until_its_mark_is_void() {
        let mut posting = Posting::default();
        assert!(posting.is_due(HOUR));
        posting.sent(7, version(5), HOUR);
        assert!(!posting.is_due(HOUR) && !posting.is_due(HOUR + MARK_NS - 1));
        assert!(posting.is_due(HOUR + MARK_NS), "no callback will come");
        assert_eq!(posting.answered(6), None, "given up before");
        assert!(!posting.is_due(HOUR));
        assert_eq!(posting.answered(7), Some(version(5)));
        assert_eq!(posting.answered(7), None, "once");
        assert!(posting.is_due(HOUR));
    }

    #[test]
    fn hc_23_a_root_asks_for_a_full_set_first() {
        let mut posting = Posting::default();
        assert_eq!(posting.have(version(5)), Version::default());
        posting.took_full();
        assert_eq!(posting.have(version(5)), version(5));
    }

    #[test]
    fn failures_wait_longer_and_a_success_forgets_them() {
        let mut posting = Posting::default();
        let mut waits = Vec::new();
        for nth in 0..12 {
            assert_eq!(posting.failed(HOUR), nth == 0, "told once");
            let waits_until = |wait: &u64| posting.is_due(HOUR + wait);
            let step = RETRY_FIRST_NS;
            waits.extend(
                (step..=RETRY_MAX_NS)
                    .step_by(step as usize)
                    .find(waits_until),
            );
        }
        let tenths: Vec<u64> = waits.iter().map(|wait| wait / RETRY_FIRST_NS).collect();
        assert_eq!(tenths, [1, 2, 4, 8, 16, 20, 20, 20, 20, 20, 20, 20]);
        posting.succeeded();
        assert!(posting.is_due(HOUR) && posting.failed(HOUR));
    }

    #[test]
    fn a_clock_that_steps_back_stops_nothing() {
        let mut posting = Posting::default();
        posting.sent(7, version(5), HOUR);
        assert!(!posting.is_due(HOUR - SECOND), "a small step is none");
        assert!(posting.is_due(HOUR / 2));
        posting.answered(7);
        posting.failed(HOUR);
        assert!(!posting.is_due(HOUR - SECOND), "a small step is none");
        assert!(posting.is_due(HOUR / 2));
    }

    #[test]
    fn hc_23_an_answer_says_nothing_of_verdicts_it_was_not_asked_from() {
        let heard = |counter, at_ns| Heard {
            version: version(counter),
            at_ns,
        };
        let news = hear(heard(5, SECOND), version(5), version(6), 2 * SECOND);
        assert_eq!(news, Some(heard(6, 2 * SECOND)));
        let unchanged = hear(heard(5, SECOND), version(5), version(5), 2 * SECOND);
        assert_eq!(unchanged, Some(heard(5, 2 * SECOND)));
        let expired = hear(Heard::default(), version(5), version(5), 2 * SECOND);
        assert_eq!(expired, None, "the gates are empty by now");
        let overtaken = hear(heard(11, SECOND), version(9), version(10), 2 * SECOND);
        assert_eq!(overtaken, None, "another VM has applied newer ones");
        let mixed = outrun(SECOND);
        assert_eq!(mixed.version, Version::default(), "the full set is next");
        assert_ne!(mixed, Heard::default(), "and what is in the gates runs out");
    }
}
