//! What a backend's own answers hold against it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration;
use super::policy::insert;
use super::reader::{Object, Path, Report, kind};
use super::retry::{Retry, RetryOn};

const STATUSES_MAX: usize = 32;
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster's `passive`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passive {
    /// Absent: no answer cools a backend down.
    pub cooldown: Option<Cooldown>,
}

/// How long a backend is left alone that answers that it has too much to do (RT-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    /// The statuses that say so; sorted, without repeats.
    pub statuses: Vec<u16>,
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
            statuses: vec![429],
            base: Duration::from_secs(3),
            max: Duration::from_secs(60),
            honor_retry_after: true,
        }
    }
}

impl Passive {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let cooldown = object
            .get("cooldown")
            .and_then(|value| Cooldown::read(value, &object.at("cooldown"), report));
        Some(Passive { cooldown })
    }

    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        if let Some(cooldown) = &self.cooldown {
            insert(&mut map, "cooldown", cooldown.write());
        }
        Value::Object(map)
    }

    /// A status that is retried shows itself to nobody but the retry.
    pub(super) fn check(&self, retry: &Retry, path: &Path<'_>, report: &Report) {
        let statuses = self.cooldown.iter().flat_map(|it| &it.statuses);
        let retried = |status: &u16| retry.on.iter().any(|on| on.retries(*status));
        for status in statuses.copied().filter(retried) {
            let why = format!(
                "must not have {status} while retry.on retries it: an answer that is retried is \
                 not seen yet"
            );
            report.unknown(&Path::Field(path, "cooldown.statuses"), why);
        }
    }
}

impl Cooldown {
    /// An answer's status, where it is one of its own.
    pub fn status(&self, text: &[u8]) -> Option<u16> {
        let status = std::str::from_utf8(text).ok()?.parse().ok()?;
        self.statuses.contains(&status).then_some(status)
    }

    fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = Cooldown::default();
        let object = Object::of(value, path, report)?;
        let statuses = match object.get("statuses") {
            None => default.statuses,
            Some(_) => read_statuses(&object, report),
        };
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
            "statuses": self.statuses, "base": duration::print(self.base),
            "max": duration::print(self.max), "honorRetryAfter": self.honor_retry_after,
        })
    }
}

fn read_statuses(object: &Object<'_>, report: &Report) -> Vec<u16> {
    let place = object.at("statuses");
    let items = object.list("statuses", STATUSES_MAX);
    if items.is_empty() {
        report.error(&place, "must have at least one");
    }
    let mut read = Vec::new();
    for (index, value) in items.iter().enumerate() {
        let status = value.as_u64().and_then(|n| u16::try_from(n).ok());
        match status.filter(|status| (400..=599).contains(status)) {
            Some(status) => {
                if let Err(place) = read.binary_search(&status) {
                    read.insert(place, status);
                }
            }
            None => {
                let why = format!("must be a status from 400 to 599, not {}", kind(value));
                report.unknown(&Path::Item(&place, index), why);
            }
        }
    }
    read
}

impl RetryOn {
    /// Whether Envoy retries an answer of this status for it.
    fn retries(self, status: u16) -> bool {
        match self {
            RetryOn::GatewayError => matches!(status, 502..=504),
            RetryOn::ServerError => status >= 500,
            RetryOn::Status(retried) => retried == status,
            RetryOn::ConnectFailure
            | RetryOn::RefusedStream
            | RetryOn::ResetBeforeRequest
            | RetryOn::Reset => false,
        }
    }
}
