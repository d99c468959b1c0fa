//! Values → host: the list and the retry headers, or the 503.

use serde_json::json;

use super::host;
use super::metrics::Counter;
use super::shared;
use super::vm::Vm;
use crate::balance::route::{PickReason, Plan, RefusalReason};
use crate::gates::availability;
use crate::gates::late::StreamChange;
use crate::stream::headers::ListHeaders;
use crate::stream::{Arrival, Effects};

/// Longest request id that is repeated in a 503's body, bytes.
const REQUEST_ID_MAX: usize = 128;

/// Writes the list and the headers that make Envoy walk it, and latches fail-open where it begins.
/// Request headers phase.
pub fn forward(vm: &Vm, list_header: &str, arrival: &Arrival, plan: &Plan, fails_open: bool) {
    let headers = ListHeaders::new(&arrival.cluster, plan, &arrival.method);
    headers.write(list_header, |name, value| {
        host::set_request_header(name, Some(value));
    });
    count_pick(vm, arrival, plan);
    if fails_open {
        latch_fail_open(vm, arrival);
    }
}

fn count_pick(vm: &Vm, arrival: &Arrival, plan: &Plan) {
    // Envoy's own counters have the primaries already.
    if plan.reason != PickReason::Primary {
        let counter = Counter::Pick(plan.reason.name());
        vm.metrics.count(&arrival.cluster, counter);
    }
    if plan.sticky_lost {
        vm.metrics
            .count(&arrival.cluster, Counter::Pick("sticky_lost"));
    }
}

/// Latches fail-open (GT-7): one CAS, one event, whichever worker is first.
fn latch_fail_open(vm: &Vm, arrival: &Arrival) {
    shared::change_gates(&arrival.cluster, &vm.metrics, |gates| {
        let mut events = Vec::new();
        availability::fails_open(gates, &mut events);
        events
    });
}

/// Answers 503: the cluster's own words, or JSON that says which cluster and why (AD-18). Request
/// headers phase.
pub fn refuse(vm: &Vm, arrival: &Arrival, reason: RefusalReason, retry_after_ns: Option<u64>) {
    let cluster = &arrival.cluster;
    vm.metrics.count(cluster, Counter::refusal(reason));
    let (content_type, body) = match &cluster.refusal {
        Some(refusal) => (refusal.content_type.as_str(), refusal.body.clone()),
        None => ("application/json", body(&cluster.name, reason)),
    };
    let seconds = retry_after_ns.map(|left| left.div_ceil(1_000_000_000).max(1).to_string());
    let mut headers = vec![
        ("content-type", content_type),
        ("cache-control", "no-cache"),
    ];
    if let Some(seconds) = &seconds {
        headers.push(("retry-after", seconds));
    }
    host::answer(503, &headers, body.as_bytes());
}

fn body(cluster: &str, reason: RefusalReason) -> String {
    let mut id = host::request_header("x-request-id").unwrap_or_default();
    id.truncate(REQUEST_ID_MAX);
    let id = String::from_utf8_lossy(&id);
    json!({
        "error": "no backend available", "cluster": cluster, "reason": reason.name(),
        "requestId": id,
    })
    .to_string()
}

/// Counts what a stream's attempts met, changes the gates where that is news, and takes in the time
/// that the server took. Any phase, but for the cookie: response headers.
pub fn effects(vm: &Vm, effects: &Effects) {
    let (cluster, outcome) = (&effects.cluster, &effects.outcome);
    let failures = outcome.evidence().filter_map(|met| met.what.failure());
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
            let late = vm.late.borrow_mut().take(|late| late.key == cluster.key);
            late.into_iter().for_each(|late| change_gates(vm, late));
            let (cluster, seed) = (cluster.clone(), vm.draw());
            change_gates(
                vm,
                StreamChange {
                    cluster,
                    change,
                    seed,
                },
            );
        }
        effects.measure(now);
    }
}

/// Tries the changes again that other workers outran.
pub fn late_changes(vm: &Vm) {
    let late = vm.late.borrow_mut().take(|_| true);
    late.into_iter().for_each(|late| change_gates(vm, late));
}

fn change_gates(vm: &Vm, change: StreamChange) {
    if !shared::change_gates(&change.cluster, &vm.metrics, |gates| change.apply(gates)) {
        vm.late.borrow_mut().keep(change);
    }
}
