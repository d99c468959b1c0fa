//! What is retried, and how long failures gate.

use std::time::Duration;

use serde_json::{Value, json};

use super::duration;
use super::failure::{self, Failure};
use super::policy::insert;
use super::reader::{Object, Path, Report};

/// Most attempts a request can have, the first included.
pub const ATTEMPTS_MAX: u32 = 10;
/// Most counted failures that still lengthen a back-off.
pub const TRIES_MAX: u32 = 16;
const DAY: Duration = Duration::from_secs(86_400);

/// The gRPC statuses that Envoy can retry.
const GRPC_RETRIED: [u16; 5] = [1, 4, 8, 13, 14];
const GRPC: &str = "one of grpc:1, grpc:4, grpc:8, grpc:13, grpc:14";

/// A cluster's `retry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts per request, the first included: 1 to [`ATTEMPTS_MAX`].
    pub attempts: u32,
    /// What makes Envoy try the next endpoint of the list; sorted, without repeats; may be empty.
    pub on: Vec<Failure>,
    /// Zero: none.
    pub per_try_timeout: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let on = vec![
            Failure::ConnectFailure,
            Failure::RefusedStream,
            Failure::ResetBeforeRequest,
        ];
        Retry {
            attempts: 3,
            on,
            per_try_timeout: Duration::ZERO,
        }
    }
}

impl Retry {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = Retry::default();
        let object = Object::of(value, path, report)?;
        let ignored = report.ignored();
        let on = match object.get("on") {
            None => default.on,
            Some(_) => failure::read_list(&object, "on", report, (can_be_retried, GRPC)),
        };
        // An entry of a newer schema may be what retries a timeout.
        let all_known = report.ignored() == ignored;
        let range = (Duration::ZERO, DAY);
        let timeout = object.duration("perTryTimeout", Duration::ZERO, range);
        let retried = on.contains(&Failure::Reset) || on.contains(&Failure::GatewayError);
        if !timeout.is_zero() && !retried && all_known {
            let why = "needs Reset or GatewayError in on: Envoy retries it under no other";
            report.error(&object.at("perTryTimeout"), why);
        }
        Some(Retry {
            attempts: object.number("attempts", default.attempts, 1, ATTEMPTS_MAX),
            on,
            per_try_timeout: timeout,
        })
    }

    /// Whether more is retried than transport failures. Envoy's words about the last attempt say
    /// nothing of why those before it failed then: the module has to see each of them itself.
    pub fn needs_upstream(&self) -> bool {
        let answers = self.on.iter().any(|on| on.is_answer());
        let retries = self.attempts > 1 && !self.on.is_empty();
        retries && (answers || !self.per_try_timeout.is_zero())
    }

    /// The lowest number of the schema that has all of it.
    pub(super) fn schema(&self) -> u32 {
        let is_grpc = |on: &Failure| match on {
            Failure::Code(code) => code.as_grpc().is_some(),
            _ => false,
        };
        if self.on.iter().any(is_grpc) { 4 } else { 1 }
    }

    pub(super) fn write(&self) -> Value {
        json!({
            "attempts": self.attempts, "on": failure::write_list(&self.on),
            "perTryTimeout": duration::print(self.per_try_timeout),
        })
    }
}

fn can_be_retried(failure: Failure) -> bool {
    match failure {
        Failure::Timeout => false,
        Failure::Code(code) => code.as_grpc().is_none_or(|it| GRPC_RETRIED.contains(&it)),
        _ => true,
    }
}

/// A cluster's `backoff`: how long a backend that failed is left alone (RT-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The unit that waits are multiples of.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// Counted failures after which waits grow no more, and the backend counts as down.
    pub max_tries: u32,
    /// After a window one request at a time tries the backend.
    pub half_open: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(63),
            max_tries: 6,
            half_open: true,
        }
    }
}

impl Backoff {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = Backoff::default();
        let object = Object::of(value, path, report)?;
        let range = (Duration::from_millis(10), Duration::from_secs(3600));
        let base = object.duration("base", default.base, range);
        let max_default = default.max.max(base);
        let max = object.duration("max", max_default, (range.0, DAY));
        if max < base {
            report.error(&object.at("max"), "must not be shorter than base");
        }
        let max_tries = object.number("maxTries", default.max_tries, 1, TRIES_MAX);
        Some(Backoff {
            base,
            max,
            max_tries,
            half_open: object.flag("halfOpen", default.half_open),
        })
    }

    pub(super) fn write(self) -> Value {
        let mut value = json!({
            "base": duration::print(self.base), "max": duration::print(self.max),
            "maxTries": self.max_tries,
        });
        if let Value::Object(map) = &mut value
            && !self.half_open
        {
            insert(map, "halfOpen", false);
        }
        value
    }

    /// The lowest number of the schema that has all of it.
    pub(super) fn schema(self) -> u32 {
        if self.half_open { 1 } else { 6 }
    }
}
