//! Values → host: the list and the retry headers, or an answer of our own.

use std::rc::Rc;

use serde_json::json;

use super::host;
use super::metrics::Counter;
use super::shared;
use super::vm::Vm;
use crate::balance::route::{PickReason, Plan, RefusalReason, Scope};
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::gates::late::{self, StreamChange};
use crate::gates::{Gates, availability};
use crate::json_rpc::{self, Fault, RpcError};
use crate::stream::headers::ListHeaders;
use crate::stream::{Arrival, Effects, Record};

/// Longest request id that is repeated in a 503's body, bytes.
const REQUEST_ID_MAX: usize = 128;

/// Writes the list and the headers that make Envoy walk it. `method` is the request's, asked where it
/// matters. Request headers phase.
pub fn forward(
    vm: &Vm,
    list_header: &str,
    arrival: &Arrival,
    plan: &Plan,
    method: impl FnOnce() -> Vec<u8>,
) {
    let headers = ListHeaders::new(&arrival.cluster, plan, method);
    headers.write(list_header, |name, value| {
        host::set_request_header(name, Some(value));
    });
    count_pick(vm, arrival, plan);
}

fn count_pick(vm: &Vm, arrival: &Arrival, plan: &Plan) {
    // Envoy's own counters have the primaries already.
    if plan.reason != PickReason::Primary {
        let counter = Counter::Pick(plan.reason.name());
        vm.metrics.count(&arrival.cluster, counter);
    }
    let count = |counts, reason| {
        if counts {
            vm.metrics.count(&arrival.cluster, Counter::Pick(reason));
        }
    };
    count(plan.sticky_lost, "sticky_lost");
    count(plan.scope == Scope::Spilled, "shard_spill");
    count(arrival.key_missing, "key_missing");
    count(plan.deferred, "deferred");
    count(plan.unpaid, "unpaid");
    count(plan.trial, "trial");
    if let Some(tier) = plan.tier_name(&arrival.cluster) {
        vm.metrics.count(&arrival.cluster, Counter::Pick(tier));
    }
}

/// Replaces the records of a request's cluster that its pick changes: `None`, or what stands there now
/// because another worker was faster. Changes of the gates that were outrun go before a trial: it is
/// made of what they left.
pub fn records(vm: &Vm, arrival: &Arrival) -> impl FnMut(Record, &[u8]) -> Option<Vec<u8>> {
    let cluster = &arrival.cluster;
    let (mut gates, mut buckets) = (arrival.gates_version, arrival.buckets_version);
    move |which, record| match which {
        Record::Buckets => {
            let key = cluster.buckets_key.as_deref()?;
            if let Some(version) = &mut buckets {
                return shared::replace(key, record, version);
            }
            let (record, version) = host::shared(key);
            buckets = Some(version);
            Some(record)
        }
        Record::Gates => {
            let is_late = vm.late.borrow().has(cluster.key);
            let newer = if is_late {
                change_gates(vm, late_changes_of(vm, cluster));
                let newer = host::shared(&cluster.gates_key);
                gates = newer.1;
                newer.0
            } else {
                shared::replace(&cluster.gates_key, record, &mut gates)?
            };
            Some(vm.late.borrow().on_top_of(newer, cluster.key))
        }
    }
}

/// Remembers a cluster of which a pick has taken tokens in advance.
pub fn note_tokens(vm: &Vm, arrival: &Arrival) {
    let cluster = &arrival.cluster;
    if arrival.buckets_version.is_none() || cluster.buckets_seen.borrow().is_none() {
        return;
    }
    let mut noted = vm.has_tokens.borrow_mut();
    if !noted.iter().any(|it| Rc::ptr_eq(it, cluster)) {
        noted.push(cluster.clone());
    }
}

/// Gives back the tokens that were taken in advance and are left.
pub fn give_tokens_back(vm: &Vm, now: WallTime) {
    let clusters = vm.has_tokens.take();
    let kept = clusters
        .into_iter()
        .filter(|it| !shared::give_back(it, now));
    vm.has_tokens.borrow_mut().extend(kept);
}

/// Latches fail-open (GT-7): one CAS, one event, whichever worker is first.
pub fn latch_fail_open(vm: &Vm, arrival: &Arrival) {
    shared::change_gates(&arrival.cluster, &vm.metrics, |gates| {
        let mut events = Vec::new();
        availability::fails_open(gates, &mut events);
        events
    });
}

/// Answers 503: the cluster's own words, or JSON that says which cluster and why (AD-18). Where limits are
/// the reason 429, or to gRPC `RESOURCE_EXHAUSTED`. A client that reads errors of JSON-RPC is sent one, for
/// the request with this id. Request headers phase.
pub fn refuse(
    vm: &Vm,
    cluster: &Cluster,
    (reason, retry_after_ns): (RefusalReason, Option<u64>),
    rpc_id: Option<&str>,
) {
    vm.metrics.count(cluster, Counter::refusal(reason));
    let limited = reason.is_of_limits();
    if let Some(id) = rpc_id {
        let error = match limited {
            true => RpcError::Limited,
            false => RpcError::NoBackend,
        };
        answer_rpc(200, &json_rpc::error_body(error, id));
        return;
    }
    let (content_type, body) = match &cluster.refusal {
        Some(refusal) if !limited => (refusal.content_type.as_str(), refusal.body.clone()),
        _ => ("application/json", body(&cluster.name, reason)),
    };
    let seconds = retry_after_ns.map(|left| left.div_ceil(1_000_000_000).max(1).to_string());
    let mut headers = vec![
        ("content-type", content_type),
        ("cache-control", "no-cache"),
    ];
    if let Some(seconds) = &seconds {
        headers.push(("retry-after", seconds));
    }
    let (status, grpc_status) = if limited { (429, Some(8)) } else { (503, None) };
    host::answer(status, grpc_status, &headers, body.as_bytes());
}

/// Answers a request whose body is not taken. Request headers phase.
pub fn refuse_body(vm: &Vm, cluster: &Cluster, fault: Fault) {
    vm.metrics
        .count(cluster, Counter::BodyRefused(fault.name()));
    answer_rpc(fault.status(), &fault.body());
}

/// Puts an error of JSON-RPC, for the request with this id, in the place of an answer that is no result;
/// whether it did. Response headers phase.
pub fn map_error(vm: &Vm, cluster: &Cluster, id: &str) -> bool {
    let status = host::response_header(":status");
    let error = status.and_then(|status| json_rpc::error_of(&status));
    if let Some(error) = error {
        vm.metrics.count(cluster, Counter::Mapped(error.name()));
        answer_rpc(200, &json_rpc::error_body(error, id));
    }
    error.is_some()
}

fn answer_rpc(status: u32, body: &str) {
    let headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-cache"),
    ];
    host::answer(status, None, &headers, body.as_bytes());
}

fn body(cluster: &str, reason: RefusalReason) -> String {
    let mut id = host::request_header("x-request-id").unwrap_or_default();
    id.truncate(REQUEST_ID_MAX);
    let id = String::from_utf8_lossy(&id);
    let error = match reason.is_of_limits() {
        true => "too many requests",
        false => "no backend available",
    };
    json!({
        "error": error, "cluster": cluster, "reason": reason.name(),
        "requestId": id,
    })
    .to_string()
}

/// Counts what a stream's attempts met, changes the gates where that is news, and takes in the time
/// that the server took. Any phase, but for the cookie: response headers.
pub fn effects(vm: &Vm, effects: &Effects) {
    let (cluster, outcome) = (&effects.cluster, &effects.outcome);
    let failures = outcome.evidence().filter_map(|met| met.failure());
    failures.for_each(|reason| vm.metrics.count(cluster, Counter::Failure(reason)));
    if outcome.exhausted {
        vm.metrics.count(cluster, Counter::Exhausted);
    }
    if outcome.spilled {
        vm.metrics.count(cluster, Counter::Pick("spill"));
    }
    if let Some(line) = &effects.set_cookie {
        host::add_response_header("set-cookie", line);
    }
    if effects.need_clock() {
        let now = host::now();
        if let Some(change) = effects.gate_change(now) {
            let mut changes = late_changes_of(vm, cluster);
            let (cluster, seed) = (cluster.clone(), vm.draw());
            changes.push(StreamChange {
                cluster,
                change,
                seed,
            });
            change_gates(vm, changes);
        }
        if effects.owes() {
            shared::pay(effects, &vm.metrics, now);
        }
        effects.measure(now);
    }
}

/// Tries the changes again that other workers outran.
pub fn late_changes(vm: &Vm) {
    let mut late = vm.late.borrow_mut().take(|_| true);
    while let Some(key) = late.last().map(|last| last.cluster.key) {
        let of_cluster = late.extract_if(.., |it| it.cluster.key == key);
        change_gates(vm, of_cluster.collect());
    }
}

fn late_changes_of(vm: &Vm, cluster: &Cluster) -> Vec<StreamChange> {
    vm.late.borrow_mut().take(|late| late.key == cluster.key)
}

/// Makes changes of one cluster, the last of them the newest: all with one write, so that a worker in a
/// storm of failures makes no more of them than it would without others.
fn change_gates(vm: &Vm, changes: Vec<StreamChange>) {
    let Some(newest) = changes.last() else {
        return;
    };
    let apply = |gates: &mut Gates| late::apply_all(&changes, gates);
    if !shared::change_gates(&newest.cluster, &vm.metrics, apply) {
        let mut late = vm.late.borrow_mut();
        changes.into_iter().for_each(|change| late.keep(change));
    }
}
