//! How much backends and a cluster are given at most.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration;
use super::policy::insert;
use super::reader::{Object, Path, Report};

/// Most backends of a cluster that have a rate limit.
pub const RATE_LIMITS_MAX: usize = 2000;
/// Most requests and connections that a document can allow: as good as any number of them.
pub const COUNT_MAX: u32 = 1_000_000;
const PER_SECOND_DEFAULT: u32 = 50;
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// How often a backend may be asked: a cluster's `rateLimit`, or a backend's own (RL-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit {
    /// So many requests in the long run.
    pub per_second: u32,
    /// So many at once, where none came for a while.
    pub burst: u32,
}

impl RateLimit {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let per_second = object.number("perSecond", PER_SECOND_DEFAULT, 1, COUNT_MAX);
        let two_seconds = per_second.saturating_mul(2).min(COUNT_MAX);
        Some(RateLimit {
            per_second,
            burst: object.number("burst", two_seconds, 1, COUNT_MAX),
        })
    }

    pub(super) fn write(self) -> Value {
        json!({"perSecond": self.per_second, "burst": self.burst})
    }
}

/// A cluster's `limits`; 0 of a count is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at a time, over all backends: Envoy's circuit breaker (RL-7).
    pub max_requests: u32,
    /// Requests that wait for a connection: Envoy's circuit breaker.
    pub max_pending_requests: u32,
    /// Connections: Envoy's circuit breaker.
    pub max_connections: u32,
    /// Streams at a time of one client's address (RL-10).
    pub max_streams_per_client: u32,
    /// When a client that has too many may come again; zero: nothing is said.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_requests: 0,
            max_pending_requests: 0,
            max_connections: 0,
            max_streams_per_client: 0,
            retry_after: RETRY_AFTER_DEFAULT,
        }
    }
}

impl Limits {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let count = |name| object.number(name, 0, 0, COUNT_MAX);
        Some(Limits {
            max_requests: count("maxRequests"),
            max_pending_requests: count("maxPendingRequests"),
            max_connections: count("maxConnections"),
            max_streams_per_client: count("maxStreamsPerClient"),
            retry_after: object.duration("retryAfter", RETRY_AFTER_DEFAULT, (Duration::ZERO, DAY)),
        })
    }

    pub(super) fn write(self) -> Value {
        let mut map = Map::new();
        for (name, count) in [
            ("maxRequests", self.max_requests),
            ("maxPendingRequests", self.max_pending_requests),
            ("maxConnections", self.max_connections),
            ("maxStreamsPerClient", self.max_streams_per_client),
        ] {
            insert(&mut map, name, count);
        }
        insert(&mut map, "retryAfter", duration::print(self.retry_after));
        Value::Object(map)
    }
}
