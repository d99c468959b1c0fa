//! Which verdicts stand in the gates, and what an answer is worth by the time it comes.
//!
//! An answer speaks of the verdicts that stood when it was asked for. Others may stand by then: the
//! sidecar was silent and they ran out, or another VM had the lease meanwhile.

use std::time::Duration;

use super::exchange::Version;
use crate::base::record;
use crate::base::time::{WallTime, nanos};

/// The version of the record.
const VERSION: u8 = 1;

/// Which verdicts stand in the gates, and when the sidecar was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerdictState {
    /// The verdicts' version; zero: none.
    pub version: Version,
    /// Wall clock.
    pub at: WallTime,
}

impl VerdictState {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let Version {
            epoch,
            counter,
            revision,
        } = self.version;
        let fields = record::numbers(&[epoch, counter, revision, self.at.ns()]);
        record::create(VERSION, &fields, 0)
    }

    /// Reads a record; one of another version or too short is as none.
    pub fn decode(record: &[u8]) -> Self {
        Self::read(record).unwrap_or_default()
    }

    fn read(record: &[u8]) -> Option<Self> {
        let (mut fields, _) = record::open(record, VERSION)?;
        let version = Version {
            epoch: fields.u64()?,
            counter: fields.u64()?,
            revision: fields.u64()?,
        };
        let at = WallTime::from_ns(fields.u64()?);
        Some(VerdictState { version, at })
    }
}

impl VerdictState {
    /// The state once an answer that was asked for from `asked` is in the gates; `None` when other
    /// verdicts stand by now: then the answer says nothing of them, and must not come into the gates.
    pub fn after(self, asked: Version, answered: Version, now: WallTime) -> Option<VerdictState> {
        (self.version == asked).then_some(VerdictState {
            version: answered,
            at: now,
        })
    }

    /// The state when somebody changed it while the gates were changed: nobody can say which
    /// verdicts stand in them, so the full set is asked for next.
    pub fn unknown(now: WallTime) -> VerdictState {
        VerdictState {
            version: Version::default(),
            at: now,
        }
    }

    /// The state by a clock that has stepped: nobody can say how long the sidecar has been silent, so
    /// the verdicts hold from now on. `None` where none stand.
    pub fn after_step(self, now: WallTime) -> Option<VerdictState> {
        (self != VerdictState::default()).then_some(VerdictState { at: now, ..self })
    }

    /// How long the sidecar has been silent, nanoseconds, where that is longer than the verdicts
    /// hold (HC-23); `None` as well where none stand.
    pub fn expired(self, ttl: Duration, now: WallTime) -> Option<u64> {
        let silent_ns = now.since(self.at);
        (self != VerdictState::default() && silent_ns >= nanos(ttl)).then_some(silent_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    fn state(counter: u64, seconds: u64) -> VerdictState {
        VerdictState {
            version: version(counter),
            at: WallTime::from_ns(seconds * SECOND),
        }
    }

    fn version(counter: u64) -> Version {
        Version {
            epoch: 1,
            counter,
            revision: 1,
        }
    }

    #[test]
    fn the_record_reads_back_and_the_corrupt_is_none() {
        let state = state(5, 1);
        assert_eq!(VerdictState::decode(&state.encode()), state);
        let none = VerdictState::default();
        assert_eq!(VerdictState::decode(&state.encode()[..30]), none);
        let longer = [&record::numbers(&[1, 5, 1, SECOND])[..], b"new"].concat();
        let longer = record::create(VERSION, &longer, 0);
        assert_eq!(VerdictState::decode(&longer), state, "a newer module's");
    }

    #[test]
    fn hc_23_an_answer_says_nothing_of_verdicts_it_was_not_asked_from() {
        let now = WallTime::from_ns(2 * SECOND);
        let after = |stands: VerdictState, asked, answered| {
            stands.after(version(asked), version(answered), now)
        };
        assert_eq!(after(state(5, 1), 5, 6), Some(state(6, 2)));
        assert_eq!(after(state(5, 1), 5, 5), Some(state(5, 2)), "unchanged");
        let expired = after(VerdictState::default(), 5, 5);
        assert_eq!(expired, None, "the gates are empty by now");
        let overtaken = after(state(11, 1), 9, 10);
        assert_eq!(overtaken, None, "another VM has applied newer ones");
        let unknown = VerdictState::unknown(now);
        assert_eq!(unknown.version, Version::default(), "the full set is next");
        assert_ne!(
            unknown,
            VerdictState::default(),
            "what is in the gates runs out"
        );
    }

    #[test]
    fn hc_23_verdicts_run_out_when_the_sidecar_is_silent() {
        let ttl = Duration::from_secs(30);
        let at = |seconds: u64| WallTime::from_ns(seconds * SECOND);
        assert_eq!(state(5, 10).expired(ttl, at(39)), None);
        assert_eq!(state(5, 10).expired(ttl, at(40)), Some(30 * SECOND));
        assert_eq!(
            VerdictState::unknown(at(10)).expired(ttl, at(40)),
            Some(30 * SECOND)
        );
        assert_eq!(
            VerdictState::default().expired(ttl, at(40)),
            None,
            "none stand"
        );
    }
}
