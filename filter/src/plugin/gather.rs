//! Host → values: what a decision needs, read in the right phase, as little as possible.

use super::host;
use super::vm::Vm;
use crate::cluster::snapshot::Snapshot;
use crate::config::Metric;
use crate::gates::cooldown;
use crate::gates::evidence::Status;
use crate::stream::attempts::{Answer, Ending};
use crate::stream::{Arrival, Stream, cookie};

/// Envoy's response flag for: no connection to the upstream could be made.
const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
/// What Envoy says of an answer that a backend gave.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Reads a request, and takes the sticky cookie out of its headers; `None` when it is none of ours.
/// Request headers phase.
pub fn arrival(vm: &Vm, snapshot: &Snapshot, whole: bool) -> Option<Arrival> {
    let name = host::property("xds\0cluster_name")?;
    let cluster = snapshot.cluster(&name)?;
    let cookies = cluster
        .sticky
        .as_ref()
        .and_then(|sticky| take_cookies(&sticky.cookie))
        .unwrap_or_default();
    let (gates, _) = host::shared(&cluster.gates_key);
    Some(Arrival {
        gates: vm.late.borrow().on_top_of(gates, cluster.key),
        cluster: cluster.clone(),
        cookies,
        method: host::request_header(":method").unwrap_or_default(),
        whole,
        now: host::now(),
    })
}

fn take_cookies(name: &str) -> Option<Vec<Vec<u8>>> {
    // A client may send cookies on several lines over HTTP/1.1. They come with commas between, which
    // a cookie may hold as well.
    let mut header = host::property("request\0headers\0cookie")?;
    if header.contains(&b',') {
        header = cookie::cookie_lines(&host::request_headers()?)?;
    }
    let cookies = cookie::take_out(&header, name)?;
    let others = Some(cookies.others.as_slice()).filter(|others| !others.is_empty());
    host::set_request_header("cookie", others);
    Some(cookies.values.into_iter().map(<[u8]>::to_vec).collect())
}

/// Reads how a stream went so far; `None` where no response is awaited. Where the first of the list
/// answered, nothing else needs to be known: no entry before it can have failed. Response headers
/// phase.
///
/// Envoy's own answers for a failed upstream are a 5xx, or to a gRPC client a 200 that ends with
/// its headers; the flags tell them from the backend's.
pub fn answer_at_response(stream: &Stream, end_of_stream: bool) -> Option<Answer> {
    let awaited = stream.awaits_response()?;
    let address = host::property("upstream\0address");
    let code = host::response_header(":status");
    let cooling = awaited
        .cooldown
        .and_then(|cooldown| Some((cooldown, cooldown.status(code.as_deref()?)?)));
    let ending = match code.as_deref() {
        _ if cooling.is_some() => ending_by_flags(),
        Some([b'5', ..]) => ending_by_flags(),
        Some(b"200") if end_of_stream => ending_by_flags(),
        _ => Ending::Answered,
    };
    let status = cooling.filter(|_| ending == Ending::Answered);
    let status = status.map(|(cooldown, code)| Status {
        code,
        asked_ns: (cooldown.honor_retry_after)
            .then(|| cooldown::asked_ns(host::response_header, host::now()))
            .flatten(),
    });
    let is_first = address.as_deref() == Some(awaited.first.as_bytes());
    let attempts = if is_first && ending == Ending::Answered {
        1
    } else {
        count_attempts()
    };
    let measures = awaited.metric == Metric::ConnectionTime && attempts == 1;
    Some(Answer {
        address,
        attempts,
        ending,
        connection_time_ns: measures.then(connection_time_ns).flatten(),
        status,
    })
}

/// Reads how a stream went that ended without response headers: Envoy itself would have answered, so
/// the client left. `None` where no response was awaited. When the stream is done.
pub fn answer_at_end(stream: &Stream) -> Option<Answer> {
    stream.awaits_response()?;
    Some(Answer {
        address: host::property("upstream\0address"),
        attempts: count_attempts(),
        ending: Ending::Abandoned,
        connection_time_ns: None,
        status: None,
    })
}

fn ending_by_flags() -> Ending {
    match host::number("response\0flags").unwrap_or(0) {
        0 => Ending::Answered,
        // Flags also tell of what befell the request elsewhere: a delay, a retry that was not made.
        _ if host::property("response\0code_details").as_deref() == Some(VIA_UPSTREAM) => {
            Ending::Answered
        }
        flags if flags & UPSTREAM_CONNECTION_FAILURE != 0 => Ending::ConnectFailed,
        _ => Ending::Unanswered,
    }
}

fn count_attempts() -> usize {
    let attempts = host::number("upstream\0request_attempt_count").unwrap_or(0);
    usize::try_from(attempts).unwrap_or(usize::MAX)
}

/// How long the stream waited for its connection, nanoseconds; `None` where it had one already.
fn connection_time_ns() -> Option<u64> {
    host::number("upstream\0cx_pool_ready_duration").filter(|time| *time > 0)
}
