//! Bodies that are held until they were read: who hands them to the module, and who has room for them.

use std::collections::BTreeMap;

use pointsman_filter::config::{ClusterConfig, FilterConfig};
use serde_json::Value;

use super::super::finding::Finding;
use super::{Envoy, FILTER, items, targets};

/// What Envoy holds where nobody says otherwise: over HTTP/1, and over HTTP/2.
const CONNECTION_DEFAULT: u64 = 1_048_576;
const WINDOW_DEFAULT: u64 = 16_777_216;
const OF_CONNECTION: &str = "per_connection_buffer_limit_bytes";
const OF_WINDOW: &str = "initial_stream_window_size";
const OF_ROUTE: &str = "request_body_buffer_limit";

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

/// The least that is held of a body on its way to a cluster, and what sets that; `None`: nothing does.
fn limit(envoy: &Envoy<'_>, cluster: &str) -> Option<(u64, &'static str)> {
    let mut routes = route_limits(envoy, cluster);
    if routes.is_empty() {
        // One that takes the cluster from a header may lead there.
        routes.push(0);
    }
    let listeners = envoy.listeners.iter().zip(&envoy.managers);
    let of_listeners = listeners.flat_map(|(listener, manager)| {
        let connection = number(&listener[OF_CONNECTION]);
        let window = number(&manager["http2_protocol_options"][OF_WINDOW]);
        [
            (connection.unwrap_or(CONNECTION_DEFAULT), OF_CONNECTION),
            (window.unwrap_or(WINDOW_DEFAULT), OF_WINDOW),
        ]
    });
    // A route's stands where it is above the listener's, so also in the place of none, which is 0.
    let held = of_listeners.flat_map(|of_listener| {
        let of_routes = routes.iter().map(|limit| (*limit, OF_ROUTE));
        of_routes.map(move |of_route| of_listener.max(of_route))
    });
    held.filter(|(limit, _)| *limit > 0).min()
}

/// The limits of the routes to a cluster; 0 where one has none.
fn route_limits(envoy: &Envoy<'_>, cluster: &str) -> Vec<u64> {
    let limits = envoy.hosts.iter().flat_map(|host| {
        let leads = |route: &&Value| targets(route).any(|it| it == cluster);
        let routes = items(&host["routes"]).filter(leads);
        let limit = |route: &Value| number(&route[OF_ROUTE]).or_else(|| number(&host[OF_ROUTE]));
        routes.map(move |route| limit(route).unwrap_or(0))
    });
    limits.collect()
}

/// A number as Envoy prints it: one of 64 bits is a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A module's config whose clusters have these rules for bodies.
    fn module(switch: Value, rules: &Value) -> Value {
        let registry = json!({"schema": 1, "clusters": [
            {"name": "a", "jsonRpc": rules},
            {"name": "b"},
        ]});
        json!({
            "root_id": FILTER, "allow_on_headers_stop_iteration": switch,
            "configuration": {"value": registry.to_string()},
        })
    }

    /// A listener with this module, whose bodies may be this large.
    fn listener_with(module: &Value, connection: Value, window: Value, hosts: &Value) -> Value {
        let manager = json!({
            "http2_protocol_options": {"initial_stream_window_size": window},
            "route_config": {"virtual_hosts": hosts},
            "http_filters": [{"name": FILTER, "typed_config": {"config": module}}],
        });
        json!({
            "per_connection_buffer_limit_bytes": connection,
            "filter_chains": [{"filters": [{"typed_config": manager}]}],
        })
    }

    fn listener(connection: Value, window: Value, hosts: &Value) -> Value {
        let module = module(json!(true), &json!({"maxBodyBytes": 1000}));
        listener_with(&module, connection, window, hosts)
    }

    /// The pages of an Envoy with these listeners, and these modules sent by its control plane.
    fn dump(listeners: &[Value], fed: &[Value]) -> Value {
        let fixed: Vec<Value> = listeners.iter().map(|it| json!({"listener": it})).collect();
        let fed = fed.iter().map(|module| {
            let filter = json!({"name": FILTER, "typed_config": {"config": module}});
            json!({"ecds_filter": filter})
        });
        let fed: Vec<Value> = fed.collect();
        json!({"configs": [
            {"@type": "x.ListenersConfigDump", "static_listeners": fixed},
            {"@type": "x.EcdsConfigDump", "ecds_filters": fed},
        ]})
    }

    /// What limits the bodies of the cluster `a` behind these listeners, and what is found wrong.
    fn limits(listeners: &[Value]) -> (Option<(u64, &'static str)>, Vec<String>) {
        let dump = dump(listeners, &[]);
        let envoy = Envoy::new(&dump, &Value::Null);
        let found = findings(&envoy).into_iter().map(|it| it.what);
        (limit(&envoy, "a"), found.collect())
    }

    #[test]
    fn rl_5_any_module_that_reads_bodies_must_be_handed_them() {
        let on = module(json!(true), &json!({}));
        let off = module(Value::Null, &json!({}));
        let off_too = module(json!(false), &json!({}));
        let reads_none = module(Value::Null, &Value::Null);
        let large = module(json!(true), &json!({"maxBodyBytes": 2_000_000}));
        for (fixed, fed, checks) in [
            (&[&on][..], &[][..], &[][..]),
            (&[&off], &[], &["body-switch"]),
            (&[&off_too], &[], &["body-switch"]),
            (&[&on, &off], &[], &["body-switch"]),
            (&[&reads_none], &[], &[]),
            (&[&reads_none], &[&off], &["body-switch"]),
            (&[&reads_none], &[&on, &reads_none], &[]),
            (&[&reads_none], &[&large], &["body-limit"]),
        ] {
            let listener =
                |module: &&Value| listener_with(module, Value::Null, Value::Null, &Value::Null);
            let listeners: Vec<Value> = fixed.iter().map(listener).collect();
            let fed: Vec<Value> = fed.iter().map(|it: &&Value| (*it).clone()).collect();
            let dump = dump(&listeners, &fed);
            let found = findings(&Envoy::new(&dump, &Value::Null));
            let found: Vec<&str> = found.into_iter().map(|it| it.check).collect();
            assert_eq!(found, checks, "{dump:#}");
        }
    }

    #[test]
    fn rl_5_what_holds_least_on_the_way_to_a_cluster_is_its_limit() {
        let none = || Value::Null;
        let to = |cluster, limit: Value| json!({"route": {"cluster": cluster}, OF_ROUTE: limit});
        let host = |limit: Value, routes: &[Value]| json!([{OF_ROUTE: limit, "routes": routes}]);
        let bare = host(none(), &[to("a", none())]);
        let of_host = |limit| host(limit, &[to("a", none())]);
        let own = |limit| host(json!(2000), &[to("a", limit)]);
        let two = |one, other| host(json!(600), &[to("a", one), to(other, none())]);
        let shared = host(
            none(),
            &[to("b", none()), weighted(&["b", "a"], json!(700))],
        );
        let by_header = host(none(), &[json!({"route": {"cluster_header": "x"}})]);
        let connection = |limit| Some((limit, OF_CONNECTION));
        let window = |limit| Some((limit, OF_WINDOW));
        let route = |limit| Some((limit, OF_ROUTE));
        for (listener_has, hosts, expected) in [
            ([none(), none()], &bare, connection(1_048_576)),
            ([json!(20_000_000), none()], &bare, window(16_777_216)),
            ([json!(999), json!(1001)], &bare, connection(999)),
            ([json!(1001), json!(999)], &bare, window(999)),
            // 0 is no limit.
            ([json!(0), none()], &bare, window(16_777_216)),
            ([json!(0), json!(999)], &bare, window(999)),
            // A route's own stands in the place of its host's, and either where it is above the listener's.
            ([json!(1), none()], &of_host(json!("7")), route(7)),
            ([json!(1), json!(3)], &own(json!(9)), route(9)),
            ([json!(11), none()], &own(json!(9)), connection(11)),
            ([json!(11), none()], &own(json!(0)), connection(11)),
            ([json!(1), none()], &two(json!(700), "a"), route(600)),
            // None of the listener's is not above it.
            ([json!(0), none()], &own(json!(9)), route(9)),
            ([json!(0), none()], &own(json!(0)), window(16_777_216)),
            // Those to other clusters do not matter, those by weights do.
            ([json!(5), none()], &two(json!(700), "b"), route(700)),
            ([json!(5), none()], &shared, route(700)),
            ([json!(5), none()], &by_header, connection(5)),
        ] {
            let [connection, window] = listener_has;
            let (limit, found) = limits(&[listener(connection, window, hosts)]);
            assert_eq!(limit, expected, "{hosts}");
            let is_less = expected.is_some_and(|(limit, _)| limit < 1000);
            assert_eq!(found.len(), usize::from(is_less), "{found:?}");
        }
        let two = [json!(2000), json!(999)].map(|it| listener(it, none(), &bare));
        assert_eq!(limits(&two).0, connection(999), "the least of both");
        let exact = limits(&[listener(json!(1000), none(), &bare)]);
        assert!(exact.1.is_empty(), "{:?}", exact.1);
    }

    /// A route to several clusters by their weights.
    fn weighted(clusters: &[&str], limit: Value) -> Value {
        let shares = clusters
            .iter()
            .map(|name| json!({"name": name, "weight": 1}));
        let shares: Vec<Value> = shares.collect();
        json!({"route": {"weighted_clusters": {"clusters": shares}}, OF_ROUTE: limit})
    }
}
