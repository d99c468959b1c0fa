//! Host → values: what a decision needs, read in the right phase, as little as possible.

use std::rc::Rc;

use super::host;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::stream::attempts::{Ending, Observation};
use crate::stream::cookie;

/// Envoy's response flag for: no connection to the upstream could be made.
const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
/// Envoy's response flag for: this answer would have been retried once more. It is an answer.
const RETRY_LIMIT_EXCEEDED: u64 = 0x8000;

/// A request of one of our clusters.
pub struct Arrival {
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// The cluster's gates and their version.
    pub gates: (Vec<u8>, u32),
    /// What the client's sticky cookie said.
    pub cookie: Option<Vec<u8>>,
    /// The method.
    pub method: Vec<u8>,
    /// Wall clock.
    pub now: WallTime,
}

/// Reads a request, and takes the sticky cookie out of its headers; `None` when it is none of ours.
/// Request headers phase.
pub fn arrival(snapshot: &Snapshot) -> Option<Arrival> {
    let name = host::property("xds\0cluster_name")?;
    let cluster = snapshot.cluster(&name)?;
    let cookie = cluster
        .sticky
        .as_ref()
        .and_then(|sticky| take_cookie(&sticky.cookie));
    Some(Arrival {
        gates: host::shared(&cluster.gates_key),
        cluster: cluster.clone(),
        cookie,
        method: host::request_header(":method").unwrap_or_default(),
        now: host::now(),
    })
}

fn take_cookie(name: &str) -> Option<Vec<u8>> {
    // A client may send cookies on several lines over HTTP/1.1. They come with commas between, which
    // a cookie may hold as well.
    let mut header = host::property("request\0headers\0cookie")?;
    if header.contains(&b',') {
        header = cookie::cookie_lines(&host::request_headers()?)?;
    }
    let cookies = cookie::take_out(&header, name)?;
    let others = Some(cookies.others.as_slice()).filter(|others| !others.is_empty());
    host::set_request_header("cookie", others);
    Some(cookies.value.to_vec())
}

/// What Envoy tells of a stream's attempts.
pub struct Attempts {
    address: Option<Vec<u8>>,
    attempts: usize,
    ending: Ending,
}

impl Attempts {
    /// As the core reads it.
    pub fn observation(&self) -> Observation<'_> {
        Observation {
            address: self.address.as_deref(),
            attempts: self.attempts,
            ending: self.ending,
        }
    }
}

/// Reads how a stream went so far. Where `first` answered, nothing else needs to be known: no entry
/// before it can have failed. Response headers phase.
///
/// Envoy's own answers for a failed upstream are a 5xx, or to a gRPC client a 200 that ends with
/// its headers; the flags tell them from the backend's.
pub fn attempts_at_response(first: &[u8], end_of_stream: bool) -> Attempts {
    let address = host::property("upstream\0address");
    let ending = match host::response_header(":status").as_deref() {
        Some([b'5', ..]) => ending_by_flags(),
        Some(b"200") if end_of_stream => ending_by_flags(),
        _ => Ending::Answered,
    };
    let by_first = ending == Ending::Answered && address.as_deref() == Some(first);
    let attempts = if by_first { 1 } else { count_attempts() };
    Attempts {
        address,
        attempts,
        ending,
    }
}

/// Reads how a stream went that ended without response headers: Envoy itself would have answered, so
/// the client left. When the stream is done.
pub fn attempts_at_end() -> Attempts {
    let address = host::property("upstream\0address");
    Attempts {
        address,
        attempts: count_attempts(),
        ending: Ending::Abandoned,
    }
}

fn ending_by_flags() -> Ending {
    match host::number("response\0flags").unwrap_or(0) & !RETRY_LIMIT_EXCEEDED {
        0 => Ending::Answered,
        flags if flags & UPSTREAM_CONNECTION_FAILURE != 0 => Ending::ConnectFailed,
        _ => Ending::Unanswered,
    }
}

fn count_attempts() -> usize {
    let attempts = host::number("upstream\0request_attempt_count").unwrap_or(0);
    usize::try_from(attempts).unwrap_or(usize::MAX)
}

/// How long the stream waited for its connection, nanoseconds; `None` where it had one already.
/// Response headers phase.
pub fn connection_time_ns() -> Option<u64> {
    host::number("upstream\0cx_pool_ready_duration").filter(|time| *time > 0)
}
