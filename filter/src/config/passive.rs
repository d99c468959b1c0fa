//! What a backend's own answers hold against it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::code::Code;
use super::duration;
use super::failure::{self, Failure};
use super::policy::insert;
use super::reader::{Object, Path, Report};
use super::retry::Retry;

const CONSECUTIVE_MAX: u32 = 100;
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster's `passive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passive {
    /// What counts for the back-off; sorted, without repeats; may be empty.
    pub failures: Vec<Failure>,
    /// So many in a row, for all but refused connections.
    pub consecutive: u32,
    /// How much of a tier failures other than refused connections may hold back.
    pub max_ejected_percent: u32,
    /// Absent: no answer cools a backend down.
    pub cooldown: Option<Cooldown>,
}

impl Default for Passive {
    fn default() -> Self {
        Passive {
            failures: vec![Failure::ConnectFailure],
            consecutive: 1,
            max_ejected_percent: 50,
            cooldown: None,
        }
    }
}

/// How long a backend is left alone that answers that it has too much to do (RT-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    /// The statuses that say so; sorted, without repeats.
    pub statuses: Vec<Failure>,
    /// The first cooldown lasts twice as long, each further one twice as long as the one before.
    pub base: Duration,
    /// No cooldown is longer.
    pub max: Duration,
    /// Where the answer says itself for how long, that counts.
    pub honor_retry_after: bool,
}

impl Default for Cooldown {
    fn default() -> Self {
        Cooldown {
            statuses: vec![Failure::Code(Code::http(429))],
            base: Duration::from_secs(3),
            max: Duration::from_secs(60),
            honor_retry_after: true,
        }
    }
}

impl Passive {
    /// Whether an answer with this code counts for the back-off.
    pub fn fails(&self, code: Code) -> bool {
        self.failures.iter().any(|failure| failure.is_by(code))
    }

    /// Whether an answer with this code cools its backend down.
    pub fn cools(&self, code: Code) -> bool {
        let cooldown = self.cooldown.as_ref();
        cooldown.is_some_and(|it| it.statuses.contains(&Failure::Code(code)))
    }

    /// Whether any answer can say something against its backend.
    pub fn reads_answers(&self) -> bool {
        self.cooldown.is_some() || self.failures.iter().any(|failure| failure.is_answer())
    }

    /// Whether a gRPC status can.
    pub fn reads_grpc(&self) -> bool {
        let cooling = self.cooldown.iter().flat_map(|it| &it.statuses);
        cooling.chain(&self.failures).any(|failure| match failure {
            Failure::Code(code) => code.as_grpc().is_some(),
            _ => false,
        })
    }

    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = Passive::default();
        let object = Object::of(value, path, report)?;
        let cooldown = object
            .get("cooldown")
            .and_then(|value| Cooldown::read(value, &object.at("cooldown"), report));
        let failures = match object.get("failures") {
            None => default.failures,
            Some(_) => failure::read_list(&object, "failures", report, (can_count, failure::GRPC)),
        };
        let percent = default.max_ejected_percent;
        Some(Passive {
            failures,
            consecutive: object.number("consecutive", default.consecutive, 1, CONSECUTIVE_MAX),
            max_ejected_percent: object.number("maxEjectedPercent", percent, 1, 100),
            cooldown,
        })
    }

    pub(super) fn write(&self) -> Value {
        let default = Passive::default();
        let mut map = Map::new();
        if self.failures != default.failures {
            insert(&mut map, "failures", failure::write_list(&self.failures));
        }
        if self.consecutive != default.consecutive {
            insert(&mut map, "consecutive", self.consecutive);
        }
        if self.max_ejected_percent != default.max_ejected_percent {
            insert(&mut map, "maxEjectedPercent", self.max_ejected_percent);
        }
        if let Some(cooldown) = &self.cooldown {
            insert(&mut map, "cooldown", cooldown.write());
        }
        Value::Object(map)
    }

    /// The lowest number of the schema that has all of it: older filters also refuse what cools down
    /// where it is retried.
    pub(super) fn schema(&self, retry: &Retry) -> u32 {
        let cooldown = self.cooldown.clone();
        let statuses = || self.cooldown.iter().flat_map(|it| &it.statuses);
        let retried = |code: Code| retry.on.iter().any(|on| on.is_by(code));
        let is_new = |failure: &Failure| match failure {
            Failure::Code(code) => code.as_grpc().is_some() || retried(*code),
            _ => true,
        };
        let has_cooldown = cooldown.is_some();
        let only_cools = Passive {
            cooldown,
            ..Passive::default()
        };
        match (*self != only_cools || statuses().any(is_new), has_cooldown) {
            (true, _) => 4,
            (false, true) => 3,
            (false, false) => 1,
        }
    }
}

fn can_count(failure: Failure) -> bool {
    !matches!(
        failure,
        Failure::RefusedStream | Failure::ResetBeforeRequest
    )
}

impl Cooldown {
    fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = Cooldown::default();
        let object = Object::of(value, path, report)?;
        let statuses = match object.get("statuses") {
            None => default.statuses,
            Some(_) => {
                let is_code = |failure| matches!(failure, Failure::Code(_));
                failure::read_list(&object, "statuses", report, (is_code, failure::GRPC))
            }
        };
        let written = object.get("statuses").and_then(Value::as_array);
        if written.is_some_and(Vec::is_empty) {
            report.error(&object.at("statuses"), "must have at least one");
        }
        let range = (Duration::from_millis(10), Duration::from_secs(3600));
        let base = object.duration("base", default.base, range);
        let max = object.duration("max", default.max.max(base), (range.0, DAY));
        if max < base {
            report.error(&object.at("max"), "must not be shorter than base");
        }
        Some(Cooldown {
            statuses,
            base,
            max,
            honor_retry_after: object.flag("honorRetryAfter", default.honor_retry_after),
        })
    }

    fn write(&self) -> Value {
        json!({
            "statuses": failure::write_list(&self.statuses), "base": duration::print(self.base),
            "max": duration::print(self.max), "honorRetryAfter": self.honor_retry_after,
        })
    }
}
