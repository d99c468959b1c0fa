//! What Envoy does with a pick: clusters and the routes that lead to them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::finding::Finding;
use super::listeners::{milliseconds, text};
use super::{Envoy, FILTER, SIDECAR_CLUSTER, items, targets};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Fewer retries at a time fail requests when a backend dies.
const ENOUGH_RETRIES: u64 = 1000;

/// All that is wrong with clusters and routes.
pub fn findings(envoy: &Envoy<'_>) -> Vec<Finding> {
    let ours = |cluster: &&Value| items(&cluster["load_balancing_policy"]["policies"]).any(obeys);
    let clusters: Vec<&Value> = envoy.clusters.values().copied().filter(ours).collect();
    let mut found = Vec::new();
    found.extend(
        clusters
            .iter()
            .filter_map(|cluster| circuit_breakers(cluster)),
    );
    found.extend(route_retries(envoy));
    let names: BTreeSet<&str> = clusters
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    found.extend(route_timeouts(envoy, &names));
    found.extend(several_sidecars(envoy));
    found
}

/// Whether a policy sends requests where the filter's list says.
fn obeys(policy: &Value) -> bool {
    let sources = &policy["typed_extension_config"]["typed_config"]["override_host_sources"];
    items(sources).any(|source| source["metadata"]["key"] == FILTER)
}

fn circuit_breakers(cluster: &Value) -> Option<Finding> {
    let name = cluster["name"].as_str()?;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let is_enough = |threshold: &Value| {
        let floor = number(&threshold["retry_budget"]["min_retry_concurrency"]);
        floor.max(number(&threshold["max_retries"])) >= ENOUGH_RETRIES
    };
    let is_default = |it: &&Value| it["priority"].is_null() || it["priority"] == "DEFAULT";
    let mut thresholds = items(&cluster["circuit_breakers"]["thresholds"]).filter(is_default);
    (!thresholds.any(is_enough)).then(|| Finding {
        check: "circuit-breakers",
        what: format!("{name}: Envoy allows few retries at a time"),
        why: "its default, three, fails most requests while a backend is down",
        mend: "copy circuit_breakers from static.yaml: a retry_budget with a high floor",
    })
}

/// The routes that lead to a cluster, with its name.
fn routes<'a>(envoy: &'a Envoy<'_>) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let routes = envoy.hosts.iter().flat_map(|host| items(&host["routes"]));
    routes.flat_map(|it| targets(it).map(move |cluster| (cluster, &it["route"])))
}

fn route_retries(envoy: &Envoy<'_>) -> Option<Finding> {
    let wants = |(cluster, route): (&str, &Value)| {
        let on = route["retry_policy"]["retry_on"]
            .as_str()
            .filter(|it| !it.is_empty())?;
        let known = envoy.clusters.get(cluster)?;
        let policy = &known["typed_extension_protocol_options"][OPTIONS]["retry_policy"];
        policy.is_null().then(|| format!("{cluster} on {on}"))
    };
    let wanted: BTreeSet<String> = routes(envoy).filter_map(wants).collect();
    (!wanted.is_empty()).then(|| Finding {
        check: "route-retries",
        what: format!("routes retry by themselves: {}", join(wanted)),
        why: "Envoy unites that with what the filter asks for: a POST may be sent twice",
        mend: "give the cluster the retry_policy of static.yaml, or take retry_on out of the route",
    })
}

fn route_timeouts(envoy: &Envoy<'_>, ours: &BTreeSet<&str>) -> Option<Finding> {
    let cuts = |(cluster, route): (&str, &Value)| {
        let timeout = match &route["timeout"] {
            Value::Null => Some("Envoy's 15s".to_owned()),
            set => milliseconds(set)
                .filter(|it| *it > 0.0 && *it < 15_000.0)
                .map(|_| text(set).to_owned()),
        };
        ours.contains(cluster)
            .then(|| Some(format!("{cluster} after {}", timeout?)))?
    };
    let cut: BTreeSet<String> = routes(envoy).filter_map(cuts).collect();
    (!cut.is_empty()).then(|| Finding {
        check: "route-timeouts",
        what: format!("answers are cut off: {}", join(cut)),
        why: "streams and slow answers end in the middle, with whatever failover they had",
        mend: "set timeout: 0s in the route, and the limits of the listener as envoy.yaml has them",
    })
}

fn several_sidecars(envoy: &Envoy<'_>) -> Option<Finding> {
    let cluster = envoy.clusters.get(SIDECAR_CLUSTER)?;
    let localities = items(&cluster["load_assignment"]["endpoints"]);
    let first = localities.filter(|it| it["priority"].as_u64().unwrap_or(0) == 0);
    let count = first.flat_map(|it| items(&it["lb_endpoints"])).count();
    (count > 1).then(|| Finding {
        check: "several-sidecars",
        what: format!("{SIDECAR_CLUSTER} leads to {count} sidecars in turn"),
        why: "each probes for itself: the verdicts of one replace those of the other",
        mend: "give each a priority of its own, so that the second serves while the first is away",
    })
}

fn join(names: BTreeSet<String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The checks that find fault with a route to `ours`, which obeys picks, and what they say.
    fn found(action: &Value) -> Vec<(&'static str, String)> {
        let source = json!({"metadata": {"key": FILTER}});
        let policy = json!({"typed_config": {"override_host_sources": [source]}});
        let threshold = json!({"max_retries": ENOUGH_RETRIES});
        let ours = json!({
            "name": "ours", "circuit_breakers": {"thresholds": [threshold]},
            "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
        });
        let manager = json!({
            "http_filters": [{"typed_config": {"config": {"root_id": FILTER}}}],
            "route_config": {"virtual_hosts": [{"routes": [{"route": action}]}]},
        });
        let listener = json!({"filter_chains": [{"filters": [{"typed_config": manager}]}]});
        let listeners = json!([{"listener": listener}]);
        let clusters = json!([{"cluster": ours}, {"cluster": {"name": "other"}}]);
        let dump = json!({"configs": [
            {"@type": "x.ListenersConfigDump", "static_listeners": listeners},
            {"@type": "x.ClustersConfigDump", "static_clusters": clusters},
        ]});
        let found = findings(&Envoy::new(&dump, &Value::Null));
        found.into_iter().map(|it| (it.check, it.what)).collect()
    }

    #[test]
    fn routes_by_weights_are_looked_at_for_each_of_their_clusters() {
        let weighted = json!({"clusters": [{"name": "other"}, {"name": "ours"}]});
        for target in [
            json!({"cluster": "ours"}),
            json!({"weighted_clusters": weighted}),
        ] {
            let with = |field: &str, value: Value| {
                let mut action = target.clone();
                action["timeout"] = json!("0s");
                action[field] = value;
                found(&action)
            };
            assert_eq!(with("timeout", json!("0s")), []);
            let cut = "answers are cut off: ours after 3s".to_owned();
            assert_eq!(with("timeout", json!("3s")), [("route-timeouts", cut)]);
            let retries = with("retry_policy", json!({"retry_on": "5xx"}));
            let [("route-retries", what)] = &retries[..] else {
                panic!("{retries:?}");
            };
            assert!(what.contains("ours on 5xx"), "{what}");
        }
        let elsewhere = json!({"weighted_clusters": {"clusters": [{"name": "other"}]}});
        assert_eq!(found(&elsewhere), [], "Envoy's own timeout is theirs");
    }
}
