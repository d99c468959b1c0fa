//! Host → values: what a decision needs, read in the right phase, as little as possible.

use std::rc::Rc;

use super::metrics::Counter;
use super::vm::Vm;
use super::{heartbeats, host};
use crate::balance::affinity;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::clients::{self, ClientStreams};
use crate::cluster::snapshot::Snapshot;
use crate::config::{Affinity, Code, JsonRpc, Metric, Passive};
use crate::gates::cooldown;
use crate::gates::evidence::Status;
use crate::json_rpc::{self, Fault};
use crate::stream::attempts::{Answer, Ending};
use crate::stream::upstream::{Attempt, AttemptAnswer, AttemptEnd};
use crate::stream::{Arrival, Stream, cookie};

/// Envoy's response flags for: no connection to the upstream could be made; no answer in time; and the
/// ends of a stream or of its connection by this side, by the other, by a lost connection, by nonsense.
const CONNECTION_FAILURE: u64 = 0x20;
const TIMEOUT: u64 = 0x4;
const RESETS: u64 = 0x8 | 0x10 | 0x40 | 0x80_0000;
/// What Envoy says of an answer that a backend gave.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// A request's cluster; `None` when it is none of ours. Request headers phase.
pub fn cluster(vm: &Vm, snapshot: &Snapshot) -> Option<Rc<Cluster>> {
    let name = host::property("xds\0cluster_name")?;
    let cluster = snapshot.cluster(&name)?.clone();
    if !vm.knows_others.get() {
        let now = host::now();
        heartbeats::read(now).merge(vm, false, usize::MAX, now);
    }
    Some(cluster)
}

/// Whether a request's body is to be read before it is picked, or what is wrong with it. Request headers
/// phase. All headers are asked for at once: three of them would cost more one by one.
pub fn announced_body(rules: &JsonRpc) -> Option<Result<(), Fault>> {
    json_rpc::announced(rules, &host::request_headers()?)
}

/// Reads a request, and takes the sticky cookie out of its headers. `held`: its body was read, so it
/// costs so many tokens, and is counted for its client already. Request headers phase, which lasts as
/// long as it is held.
pub fn arrival(vm: &Vm, cluster: Rc<Cluster>, whole: bool, held: Option<u32>) -> Arrival {
    let cookies = cluster
        .sticky
        .as_ref()
        .and_then(|sticky| take_cookies(&sticky.cookie))
        .unwrap_or_default();
    let key = cluster.key_source.as_ref().map(read_key);
    let (key, key_missing) = key.unwrap_or_default();
    let client = match held {
        None => client(vm, &cluster),
        Some(_) => None,
    };
    let (gates, gates_version) = host::shared(&cluster.gates_key);
    let (buckets, buckets_version) = match cluster.buckets_key.as_deref() {
        Some(_) if cluster.buckets_seen.borrow().is_some() => (Vec::new(), None),
        Some(key) => {
            let (buckets, version) = host::shared(key);
            (buckets, Some(version))
        }
        None => (Vec::new(), Some(0)),
    };
    let gates = vm.late.borrow().on_top_of(gates, cluster.key);
    let now = match cluster.asks_the_time(&gates) {
        true => host::now(),
        false => WallTime::FIRST,
    };
    Arrival {
        gates,
        gates_version,
        cluster,
        buckets,
        buckets_version,
        workers: vm.clients.borrow().workers(),
        client,
        cookies,
        key,
        key_missing,
        cost: held.unwrap_or(1),
        whole,
        now,
    }
}

/// The streams of the client's address, as Envoy trusts it, where they are limited.
pub fn client(vm: &Vm, cluster: &Cluster) -> Option<Rc<ClientStreams>> {
    let max = cluster.limits.max_streams_per_client;
    if max == 0 {
        return None;
    }
    let key = clients::key(cluster.key, &host::property("source\0address")?)?;
    let client = vm.clients.borrow_mut().of(key, max);
    if client.is_none() {
        vm.metrics.count(cluster, Counter::Pick("client_uncounted"));
    }
    client
}

fn take_cookies(name: &str) -> Option<Vec<Vec<u8>>> {
    let header = cookie_header()?;
    let cookies = cookie::take_out(&header, name)?;
    let others = Some(cookies.others.as_slice()).filter(|others| !others.is_empty());
    host::set_request_header("cookie", others);
    Some(cookies.values.into_iter().map(<[u8]>::to_vec).collect())
}

fn cookie_header() -> Option<Vec<u8>> {
    // A client may send cookies on several lines over HTTP/1.1. They come with commas between, which
    // a cookie may hold as well.
    let header = host::property("request\0headers\0cookie")?;
    if header.contains(&b',') {
        return cookie::cookie_lines(&host::request_headers()?);
    }
    Some(header)
}

/// A request's key, and whether it is not where it is to stand; then it is the client's address.
fn read_key(source: &Affinity) -> (Option<u64>, bool) {
    let key = match source {
        Affinity::Header(name) => {
            host::request_header(name).and_then(|value| affinity::key_of_value(&value))
        }
        Affinity::Cookie(name) => cookie_header().and_then(|header| {
            let cookies = cookie::take_out(&header, name)?;
            affinity::key_of_value(cookies.values.first()?)
        }),
        Affinity::SourceIp => None,
    };
    // The address that Envoy trusts: a client's own `x-forwarded-for` changes it only where the
    // listener is told so.
    let address = || host::property("source\0address");
    let of_client = || address().and_then(|address| affinity::key_of_address(&address));
    let missing = key.is_none() && *source != Affinity::SourceIp;
    (key.or_else(of_client), missing)
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
    let telling = telling_code(awaited.cluster, code.as_deref(), end_of_stream);
    let ending = match code.as_deref() {
        _ if telling.is_some() => ending_by_flags(),
        Some([b'5', ..]) => ending_by_flags(),
        Some(b"200") if end_of_stream => ending_by_flags(),
        _ => Ending::Answered,
    };
    let telling = telling.filter(|_| ending == Ending::Answered);
    let status = telling.map(|code| read_status(&awaited.cluster.passive, code));
    let is_first = address.as_deref() == Some(awaited.first.as_bytes());
    let attempts = if is_first && ending == Ending::Answered {
        1
    } else {
        count_attempts()
    };
    let metric = awaited.cluster.balancing.metric;
    let measures = metric == Metric::ConnectionTime && attempts == 1;
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
        flags if flags & CONNECTION_FAILURE != 0 => Ending::ConnectFailed,
        flags if flags & TIMEOUT != 0 => Ending::TimedOut,
        flags if flags & RESETS != 0 => Ending::Reset,
        _ => Ending::Unanswered,
    }
}

/// The error that an attempt is answered with; `None` for any other answer. Upstream, response headers
/// phase.
pub fn attempts_error(end_of_stream: bool) -> Option<Code> {
    let status = host::response_header(":status")?;
    let code = match &status[..] {
        b"200" if !end_of_stream => return None,
        b"200" => Code::of_header(&host::response_header("grpc-status")?)?,
        status => Code::of_header(status)?,
    };
    code.is_error().then_some(code)
}

/// Reads what an error says against its backend; `None` where that is nothing. Upstream, response headers
/// phase.
pub fn attempts_answer(attempt: &Attempt, code: Code) -> Option<AttemptAnswer> {
    let cluster = attempt.awaits_answer()?;
    cluster.is_telling(code).then(|| AttemptAnswer {
        address: host::property("upstream\0address"),
        status: read_status(&cluster.passive, code),
        begun: count_attempts(),
    })
}

/// The code of an answer that says something against its backend: its status, or the gRPC status of
/// one that has nothing but trailers. Response headers phase.
fn telling_code(cluster: &Cluster, status: Option<&[u8]>, end_of_stream: bool) -> Option<Code> {
    let code = match status {
        Some(b"200") if !end_of_stream || !cluster.reads_grpc() => return None,
        Some(b"200") => Code::of_header(&host::response_header("grpc-status")?)?,
        status => Code::of_header(status?)?,
    };
    cluster.is_telling(code).then_some(code)
}

/// Reads how an attempt ended; `None` where that says nothing. Upstream, when the attempt is done.
pub fn attempts_end(attempt: &Attempt) -> Option<AttemptEnd> {
    if !attempt.matters() {
        return None;
    }
    let waits = attempt.is_waiting();
    let failure = || host::property("upstream\0transport_failure_reason");
    Some(AttemptEnd {
        address: host::property("upstream\0address"),
        connect_failed: waits && failure().is_some(),
        begun: if waits { count_attempts() } else { 0 },
        now: attempt.has_timeout().then(host::now),
    })
}

fn read_status(passive: &Passive, code: Code) -> Status {
    let cooldown = passive.cooldown.as_ref();
    let honored = cooldown.filter(|it| it.honor_retry_after && passive.cools(code));
    let asked_ns = honored.and_then(|_| cooldown::asked_ns(host::response_header, host::now));
    Status { code, asked_ns }
}

fn count_attempts() -> usize {
    let attempts = host::number("upstream\0request_attempt_count").unwrap_or(0);
    usize::try_from(attempts).unwrap_or(usize::MAX)
}

/// How long the stream waited for its connection, nanoseconds; `None` where it had one already.
fn connection_time_ns() -> Option<u64> {
    host::number("upstream\0cx_pool_ready_duration").filter(|time| *time > 0)
}
