//! What is retried, and how long failures gate.

use std::time::Duration;

use serde_json::{Value, json};

use super::duration;
use super::policy::name_of;
use super::reader::{Object, Path, Report, kind};

/// Most attempts a request can have, the first included.
pub const ATTEMPTS_MAX: u32 = 10;
/// Most counted failures that still lengthen a back-off.
pub const TRIES_MAX: u32 = 16;
const RETRY_ON_MAX: usize = 32;
const DAY: Duration = Duration::from_secs(86_400);

/// What makes Envoy try the next endpoint of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// The connection could not be made.
    ConnectFailure,
    /// The backend refused the stream before it looked at it.
    RefusedStream,
    /// The connection ended before the request was written.
    ResetBeforeRequest,
    /// The connection ended, or nothing came in time.
    Reset,
    /// 502, 503 or 504.
    GatewayError,
    /// Any 5xx.
    ServerError,
    /// This status.
    Status(u16),
}

const RETRY_ON: &[(&str, RetryOn)] = &[
    ("ConnectFailure", RetryOn::ConnectFailure),
    ("RefusedStream", RetryOn::RefusedStream),
    ("ResetBeforeRequest", RetryOn::ResetBeforeRequest),
    ("Reset", RetryOn::Reset),
    ("GatewayError", RetryOn::GatewayError),
    ("ServerError", RetryOn::ServerError),
];

/// A cluster's `retry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts per request, the first included: 1 to [`ATTEMPTS_MAX`].
    pub attempts: u32,
    /// Sorted, without repeats; may be empty.
    pub on: Vec<RetryOn>,
    /// Zero: none.
    pub per_try_timeout: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let on = vec![
            RetryOn::ConnectFailure,
            RetryOn::RefusedStream,
            RetryOn::ResetBeforeRequest,
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
            Some(_) => read_retry_on(&object, report),
        };
        // An entry of a newer schema may be what retries a timeout.
        let all_known = report.ignored() == ignored;
        let range = (Duration::ZERO, DAY);
        let timeout = object.duration("perTryTimeout", Duration::ZERO, range);
        let retried = on.contains(&RetryOn::Reset) || on.contains(&RetryOn::GatewayError);
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

    pub(super) fn write(&self) -> Value {
        let on: Vec<Value> = self.on.iter().map(|on| on.write()).collect();
        json!({
            "attempts": self.attempts, "on": on,
            "perTryTimeout": duration::print(self.per_try_timeout),
        })
    }
}

impl RetryOn {
    fn write(self) -> Value {
        match self {
            RetryOn::Status(status) => status.into(),
            named => name_of(RETRY_ON, named).into(),
        }
    }
}

fn read_retry_on(object: &Object<'_>, report: &Report) -> Vec<RetryOn> {
    let list = object.at("on");
    let mut read = Vec::new();
    for (index, value) in object.list("on", RETRY_ON_MAX).iter().enumerate() {
        let named = value
            .as_str()
            .and_then(|t| RETRY_ON.iter().find(|(name, _)| *name == t));
        let status = value.as_u64().and_then(|n| u16::try_from(n).ok());
        match (named, status.filter(|status| (400..=599).contains(status))) {
            (Some((_, on)), _) => insert_once(&mut read, *on),
            (None, Some(status)) => insert_once(&mut read, RetryOn::Status(status)),
            (None, None) => {
                let names: Vec<&str> = RETRY_ON.iter().map(|(name, _)| *name).collect();
                let choices = names.join(", ");
                let why = format!(
                    "must be one of {choices} or a status from 400 to 599, not {}",
                    kind(value)
                );
                report.unknown(&Path::Item(&list, index), why);
            }
        }
    }
    read
}

/// Keeps a short list sorted, each element once.
fn insert_once(list: &mut Vec<RetryOn>, on: RetryOn) {
    if let Err(place) = list.binary_search(&on) {
        list.insert(place, on);
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
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(63),
            max_tries: 6,
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
        })
    }

    pub(super) fn write(self) -> Value {
        json!({
            "base": duration::print(self.base), "max": duration::print(self.max),
            "maxTries": self.max_tries,
        })
    }
}
