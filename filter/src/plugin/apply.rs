//! Values → host: the list and the retry headers, or the 503.

use serde_json::json;

use super::gather::Arrival;
use super::host;
use super::metrics::Counter;
use super::shared;
use super::vm::Vm;
use crate::balance::route::{PickReason, Plan, RefusalReason};
use crate::cluster::retry;
use crate::cluster::snapshot::Snapshot;
use crate::gates::availability;

/// Longest request id that is repeated in a 503's body, bytes.
const REQUEST_ID_MAX: usize = 128;

/// Writes the list and the headers that make Envoy walk it. Request headers phase.
pub fn forward(vm: &Vm, snapshot: &Snapshot, arrival: &Arrival, plan: &Plan) {
    let cluster = &arrival.cluster;
    let retry = &cluster.retry;
    let retry_on = retry.retry_on(&arrival.method, plan.alone);
    let twice = plan.alone && !retry_on.is_empty();
    let mut list = String::with_capacity(96);
    for endpoint in plan
        .list
        .entries()
        .iter()
        .filter_map(|index| cluster.endpoint(*index))
    {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&endpoint.address);
    }
    if twice {
        let once = list.clone();
        list.push(',');
        list.push_str(&once);
    }
    let retries = if twice {
        1
    } else {
        plan.list.len().saturating_sub(1)
    };
    host::set_request_header(&snapshot.header, Some(list.as_bytes()));
    host::set_request_header(retry::MAX_RETRIES, Some(digit(retries)));
    if retries > 0 && !retry_on.is_empty() {
        host::set_request_header(retry::RETRY_ON, Some(retry_on.as_bytes()));
        if !retry.status_codes.is_empty() {
            host::set_request_header(retry::STATUS_CODES, Some(retry.status_codes.as_bytes()));
        }
    }
    if !retry.per_try_timeout_ms.is_empty() {
        host::set_request_header(
            retry::PER_TRY_TIMEOUT,
            Some(retry.per_try_timeout_ms.as_bytes()),
        );
    }
    count_pick(vm, arrival, plan);
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

/// Moves the fail-open latch when a pick found it the other way round (GT-7): one CAS, one event,
/// whichever worker is first.
pub fn latch_fail_open(vm: &Vm, arrival: &Arrival, entered: bool) {
    shared::change_gates(&arrival.cluster, &vm.metrics, |gates| {
        let mut events = Vec::new();
        availability::fail_open(entered, gates, &mut events);
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
    host::answer(503, headers, body.as_bytes());
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

fn digit(number: usize) -> &'static [u8] {
    b"0123456789".get(number..=number).unwrap_or(b"0")
}
