//! The way of a request through the listener: filters, their order, the module's settings, the routes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::finding::Finding;
use super::{Envoy, FILTER, LIST_HEADER, items};

/// Request headers by which a client could steer retries, hedging or timeouts.
const STEERING: [&str; 6] = [
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retriable-status-codes",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-ms",
];
/// At 1 ms Envoy itself dies when a VM does.
const SHORTEST_RELOAD_MS: f64 = 2.0;

/// Whether an HTTP filter is Pointsman's: by its name as an ECDS resource, or by its module's root.
pub fn is_ours(filter: &Value) -> bool {
    let fed = filter["name"] == FILTER && filter["config_discovery"].is_object();
    fed || filter["typed_config"]["config"]["root_id"] == FILTER
}

/// All that is wrong with listeners.
pub fn findings(envoy: &Envoy<'_>) -> Vec<Finding> {
    if envoy.managers.is_empty() {
        let where_from = match envoy.has_listeners {
            true => "no listener has the filter",
            false => "there is no listener",
        };
        return vec![Finding {
            check: "no-filter",
            what: format!("{where_from}: nobody picks backends here"),
            why: "requests go where Envoy's own policies send them",
            mend: "put the filter pointsman before header_to_metadata and the router, as envoy.yaml has it",
        }];
    }
    let mut found = Vec::new();
    for manager in &envoy.managers {
        let place = manager["stat_prefix"].as_str().unwrap_or("?");
        found.extend(order(manager, place));
        found.extend(early_mutation(manager, place));
        let filters = items(&manager["http_filters"]);
        for filter in filters.filter(|it| is_ours(it)) {
            found.extend(module(filter, place));
        }
    }
    found.extend(stats_tags(envoy));
    found
}

fn order(manager: &Value, place: &str) -> Option<Finding> {
    let filters: Vec<&Value> = items(&manager["http_filters"]).collect();
    let at = |is_it: &dyn Fn(&Value) -> bool| filters.iter().position(|it| is_it(it));
    let ours = at(&is_ours)?;
    let is_mover = |it: &Value| {
        let rules = items(&it["typed_config"]["request_rules"]);
        let mut rules = rules.filter(|rule| rule["header"] == LIST_HEADER);
        rules.any(|rule| rule["on_header_present"]["key"] == "endpoints")
    };
    let what = match at(&is_mover) {
        None => "no header_to_metadata moves the list to where clusters read it",
        Some(mover) if mover < ours => "header_to_metadata stands before pointsman",
        Some(mover) if mover + 1 == filters.len() => "header_to_metadata stands behind the router",
        Some(_) => return None,
    };
    Some(Finding {
        check: "filter-order",
        what: format!("{place}: {what}"),
        why: "no pick has any effect: every request goes to the fallback policy",
        mend: "the order is pointsman, header_to_metadata, router, as envoy.yaml has it",
    })
}

fn early_mutation(manager: &Value, place: &str) -> Option<Finding> {
    let removed: BTreeSet<&str> = items(&manager["early_header_mutation_extensions"])
        .flat_map(|it| items(&it["typed_config"]["mutations"]))
        .filter_map(|it| it["remove"].as_str())
        .collect();
    let wanted = [LIST_HEADER].into_iter().chain(STEERING);
    let kept: Vec<&str> = wanted.filter(|name| !removed.contains(name)).collect();
    (!kept.is_empty()).then(|| Finding {
        check: "early-mutation",
        what: format!("{place}: clients may send {}", kept.join(", ")),
        why: "a client can choose its backend, its retries or its timeouts while the VM is down",
        mend: "copy early_header_mutation_extensions from envoy.yaml",
    })
}

fn module(filter: &Value, place: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let wasm = match filter["config_discovery"].is_object() {
        true => &filter["config_discovery"]["default_config"]["config"],
        false => &filter["typed_config"]["config"],
    };
    if wasm.is_null() {
        found.push(Finding {
            check: "default-config",
            what: format!("{place}: the filter has no default_config"),
            why: "until the sidecar's first answer every request is answered 500",
            mend: "copy default_config from envoy.yaml: the same module without a registry",
        });
        return found;
    }
    let vm_id = wasm["vm_config"]["vm_id"].as_str().unwrap_or("");
    if vm_id != FILTER {
        found.push(Finding {
            check: "vm-id",
            what: format!("{place}: the module's vm_id is {vm_id:?}"),
            why: "back-offs and verdicts live only as long as some module with the vm_id pointsman does, so \
                  a new configuration forgets them",
            mend: "set vm_id: pointsman, also in default_config",
        });
    }
    let backoff = &wasm["reload_config"]["backoff"]["base_interval"];
    let too_short = milliseconds(backoff).is_some_and(|it| it < SHORTEST_RELOAD_MS);
    if wasm["failure_policy"] == "FAIL_RELOAD" && too_short {
        found.push(Finding {
            check: "reload-backoff",
            what: format!(
                "{place}: a VM that died is started again after {}",
                text(backoff)
            ),
            why: "below 2 ms Envoy itself dies when a VM does",
            mend: "set reload_config.backoff.base_interval to 0.02s",
        });
    }
    found
}

fn stats_tags(envoy: &Envoy<'_>) -> Option<Finding> {
    let tags: BTreeSet<&str> = items(&envoy.bootstrap["stats_config"]["stats_tags"])
        .filter_map(|it| it["tag_name"].as_str())
        .collect();
    let wanted = ["pointsman_cluster", "reason"];
    let missing: Vec<&str> = wanted.into_iter().filter(|it| !tags.contains(it)).collect();
    (!missing.is_empty()).then(|| Finding {
        check: "stats-tags",
        what: format!("the filter's stats have no label {}", missing.join(" and ")),
        why: "every cluster and reason becomes a metric name of its own, and no alert finds it",
        mend: "copy stats_config from envoy.yaml",
    })
}

/// A value as people write it.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// A duration as Envoy prints it, such as `0.020s`.
pub fn milliseconds(duration: &Value) -> Option<f64> {
    let seconds: f64 = duration.as_str()?.strip_suffix('s')?.parse().ok()?;
    Some(seconds * 1000.0)
}
