//! Bodies that are held until they were read: who hands them to the module, and who has room for them.

use std::collections::BTreeMap;

use pointsman_filter::config::{ClusterConfig, FilterConfig};
use serde_json::Value;

use super::super::finding::Finding;
use super::{Envoy, FILTER, items};

/// What Envoy holds where nobody says otherwise: over HTTP/1, and over HTTP/2.
const CONNECTION_DEFAULT: u64 = 1_048_576;
const WINDOW_DEFAULT: u64 = 16_777_216;

/// All that is wrong with how bodies are held.
pub fn findings(envoy: &Envoy<'_>) -> Vec<Finding> {
    let modules = || modules(envoy);
    let mut found = Vec::new();
    let reading = |module: &&Value| !bodies(module).is_empty();
    let switch = |module: &Value| module["allow_on_headers_stop_iteration"] == true;
    if modules().filter(reading).any(|module| !switch(module)) {
        found.push(Finding {
            check: "body-switch",
            what: "clusters have jsonRpc, but Envoy hands no body over".to_owned(),
            why: "each of their requests with a JSON body waits until it is timed out",
            mend: "set allow_on_headers_stop_iteration: true beside the filter's failure_policy",
        });
    }
    let bodies: BTreeMap<String, u64> = modules().flat_map(bodies).collect();
    for (cluster, most) in bodies {
        if let Some((limit, whose)) = limit(envoy, &cluster).filter(|(limit, _)| most > *limit) {
            found.push(Finding {
                check: "body-limit",
                what: format!("{cluster}: jsonRpc.maxBodyBytes is {most}, {whose} is {limit}"),
                why: "a body that is larger than what Envoy holds is never read to its end: its request \
                      waits until it is timed out",
                mend: "raise the route's request_body_buffer_limit, or lower maxBodyBytes",
            });
        }
    }
    found
}

/// The module's configs in force: those in listeners, or what came in their place.
fn modules<'a>(envoy: &'a Envoy<'_>) -> impl Iterator<Item = &'a Value> {
    let filters = envoy
        .managers
        .iter()
        .flat_map(|it| items(&it["http_filters"]));
    let fixed = filters
        .filter(|it| it["typed_config"]["config"]["root_id"] == FILTER)
        .map(|it| &it["typed_config"]["config"]);
    fixed.chain(envoy.fed_modules.iter().copied())
}

/// The clusters of a module's config whose bodies are read, with the largest body of each.
fn bodies(module: &Value) -> Vec<(String, u64)> {
    let text = module["configuration"]["value"].as_str().unwrap_or("");
    let config = FilterConfig::parse(text.as_bytes());
    let clusters = config.map(|config| config.clusters).unwrap_or_default();
    let body = |cluster: ClusterConfig| {
        let most = cluster.json_rpc?.max_body_bytes;
        Some((cluster.name, most.into()))
    };
    clusters.into_iter().filter_map(body).collect()
}

/// The least that is held of a body on its way to a cluster, and what sets that.
fn limit(envoy: &Envoy<'_>, cluster: &str) -> Option<(u64, &'static str)> {
    let routes = envoy.hosts.iter().flat_map(|host| {
        let routes = items(&host["routes"]).filter(|it| it["route"]["cluster"] == cluster);
        routes.map(|route| {
            let own = number(&route["request_body_buffer_limit"]);
            own.or_else(|| number(&host["request_body_buffer_limit"]))
        })
    });
    let routes: Option<Vec<u64>> = routes.collect();
    let of_routes = routes.and_then(|it| it.into_iter().min());
    let of_routes = of_routes.map(|limit| (limit, "request_body_buffer_limit"));
    // It stands above the listener's, if every route has one.
    let listeners = envoy.listeners.iter().zip(&envoy.managers);
    let of_listeners = listeners.flat_map(|(listener, manager)| {
        let connection = number(&listener["per_connection_buffer_limit_bytes"]);
        let window = number(&manager["http2_protocol_options"]["initial_stream_window_size"]);
        [
            (
                connection.unwrap_or(CONNECTION_DEFAULT),
                "per_connection_buffer_limit_bytes",
            ),
            (
                window.unwrap_or(WINDOW_DEFAULT),
                "initial_stream_window_size",
            ),
        ]
    });
    of_routes.or_else(|| of_listeners.min())
}

/// A number as Envoy prints it: one of 64 bits is a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A listener with the filter, whose bodies may be this large.
    fn listener(connection: Value, window: Value, hosts: &Value) -> Value {
        let registry = json!({"schema": 1, "clusters": [
            {"name": "a", "jsonRpc": {"maxBodyBytes": 1000}},
            {"name": "b"},
        ]});
        let config = json!({
            "root_id": FILTER, "allow_on_headers_stop_iteration": true,
            "configuration": {"value": registry.to_string()},
        });
        let manager = json!({
            "http2_protocol_options": {"initial_stream_window_size": window},
            "route_config": {"virtual_hosts": hosts},
            "http_filters": [{"name": FILTER, "typed_config": {"config": config}}],
        });
        json!({
            "per_connection_buffer_limit_bytes": connection,
            "filter_chains": [{"filters": [{"typed_config": manager}]}],
        })
    }

    /// What limits the bodies of the cluster `a` behind these listeners, and what is found wrong.
    fn limits(listeners: &[Value]) -> (Option<(u64, &'static str)>, Vec<String>) {
        let fixed: Vec<Value> = listeners.iter().map(|it| json!({"listener": it})).collect();
        let listeners = json!({"@type": "x.ListenersConfigDump", "static_listeners": fixed});
        let dump = json!({"configs": [listeners]});
        let envoy = Envoy::new(&dump, &Value::Null);
        let found = findings(&envoy).into_iter().map(|it| it.what);
        (limit(&envoy, "a"), found.collect())
    }

    #[test]
    fn rl_5_what_holds_least_on_the_way_to_a_cluster_is_its_limit() {
        const WINDOW: &str = "initial_stream_window_size";
        const CONNECTION: &str = "per_connection_buffer_limit_bytes";
        const ROUTE: &str = "request_body_buffer_limit";
        let none = Value::Null;
        let to = |cluster, limit: Value| json!({"route": {"cluster": cluster}, ROUTE: limit});
        let host = |limit: Value, routes: &[Value]| json!([{ROUTE: limit, "routes": routes}]);
        let bare = host(none.clone(), &[to("a", none.clone())]);
        for (connection, window, hosts, expected) in [
            (none.clone(), none.clone(), &bare, (1_048_576, CONNECTION)),
            (json!(20_000_000), none.clone(), &bare, (16_777_216, WINDOW)),
            (json!(999), json!(1001), &bare, (999, CONNECTION)),
            (json!(1001), json!(999), &bare, (999, WINDOW)),
            // A route's own limit stands above its host's, and both above the listener's.
            (
                json!(1),
                none.clone(),
                &host(json!("7"), &[to("a", none.clone())]),
                (7, ROUTE),
            ),
            (
                json!(1),
                none.clone(),
                &host(json!(7), &[to("a", json!(9))]),
                (9, ROUTE),
            ),
            (
                json!(1),
                none.clone(),
                &host(json!(7), &[to("a", json!(9)), to("a", none.clone())]),
                (7, ROUTE),
            ),
            // Unless a route has none. Those to other clusters do not matter.
            (
                json!(5),
                none.clone(),
                &host(none.clone(), &[to("a", json!(9)), to("a", none.clone())]),
                (5, CONNECTION),
            ),
            (
                json!(5),
                none.clone(),
                &host(none.clone(), &[to("a", json!(9)), to("b", none.clone())]),
                (9, ROUTE),
            ),
        ] {
            let (limit, found) = limits(&[listener(connection, window, hosts)]);
            assert_eq!(limit, Some(expected), "{hosts}");
            assert_eq!(found.len(), usize::from(expected.0 < 1000), "{found:?}");
        }
        let two = [json!(2000), json!(999)].map(|it| listener(it, none.clone(), &bare));
        assert_eq!(limits(&two).0, Some((999, CONNECTION)), "the least of both");
        let exact = limits(&[listener(json!(1000), none.clone(), &bare)]);
        assert!(exact.1.is_empty(), "{:?}", exact.1);
    }
}
