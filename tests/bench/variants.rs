//! The shipped bootstrap, changed into what the other contenders are.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use harness::{Bootstrap, artefacts};
use serde_json::{Value, json};

use crate::contender::CLUSTER;

const POLICY: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const PREVIOUS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const LIST: &str = "x-gateway-destination-endpoint";
/// Routes before the one that counts.
const ROUTES: u32 = 1000;

/// The static bootstrap with the cluster's endpoints as the document has them.
pub fn fixed(document: &Value, addresses: &[SocketAddr]) -> Result<Bootstrap> {
    let container = json!({"schema": 1, "clusters": [document]});
    Bootstrap::fixed(&container)?.endpoints(CLUSTER, addresses)
}

/// Without any filter of ours, balanced by `least_request`.
pub fn native(bootstrap: Bootstrap) -> Result<Bootstrap> {
    let mut bootstrap = bootstrap.without_filter()?;
    let manager = bootstrap.manager_mut()?;
    let early = "early_header_mutation_extensions";
    manager.as_object_mut().context("no object")?.remove(early);
    if let Some(filters) = manager["http_filters"].as_array_mut() {
        filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
    }
    Ok(bootstrap.edit(|root| {
        let least_request = json!({"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.least_request",
            "typed_config": {"@type": format!("{POLICY}.least_request.v3.LeastRequest")},
        }}]});
        let clusters = root.pointer_mut("/static_resources/clusters");
        for cluster in clusters.and_then(Value::as_array_mut).into_iter().flatten() {
            cluster["load_balancing_policy"] = least_request.clone();
        }
    }))
}

/// A Lua filter in the filter's place.
pub fn with_lua(mut bootstrap: Bootstrap, addresses: &[SocketAddr]) -> Result<Bootstrap> {
    let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    let script = format!(
        "local backends = {{{}}}\n\
         local turn = 0\n\
         function envoy_on_request(handle)\n\
           turn = turn % #backends + 1\n\
           handle:headers():replace(\"x-gateway-destination-endpoint\", backends[turn])\n\
         end\n",
        list.join(", ")
    );
    *bootstrap.filter_mut("pointsman")? = json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": format!("{FILTERS}.lua.v3.Lua"),
            "default_source_code": {"inline_string": script},
        },
    });
    Ok(bootstrap)
}

/// An `ext_proc` filter in the filter's place, which asks this picker.
pub fn with_picker(mut bootstrap: Bootstrap, picker: SocketAddr) -> Result<Bootstrap> {
    *bootstrap.filter_mut("pointsman")? = json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": format!("{FILTERS}.ext_proc.v3.ExternalProcessor"),
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}},
            "processing_mode": {
                "request_header_mode": "SEND", "response_header_mode": "SKIP",
                "request_body_mode": "NONE", "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP",
            },
        },
    });
    Ok(bootstrap.endpoints("picker", &[picker])?.edit(|root| {
        let clusters = root.pointer_mut("/static_resources/clusters");
        let mut clusters = clusters.and_then(Value::as_array_mut).into_iter().flatten();
        if let Some(cluster) = clusters.find(|cluster| cluster["name"] == "picker") {
            cluster["typed_extension_protocol_options"] = json!({HTTP: {
                "@type": format!("type.googleapis.com/{HTTP}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }});
            if let Some(cluster) = cluster.as_object_mut() {
                cluster.remove("load_balancing_policy");
            }
        }
    }))
}

/// The cluster retries as the filter lets it by default, each time on another host.
pub fn with_retries(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit(|root| {
        let clusters = root.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).into_iter().flatten();
        for cluster in clusters.filter(|cluster| cluster["name"] == CLUSTER) {
            cluster["typed_extension_protocol_options"][HTTP]["retry_policy"] = json!({
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 2,
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": PREVIOUS},
                }],
            });
        }
    })
}

/// Every list of three that begins with another endpoint.
fn lists(addresses: &[SocketAddr]) -> Vec<String> {
    let from = |first: usize| {
        let list = addresses
            .iter()
            .cycle()
            .skip(first)
            .take(3.min(addresses.len()));
        list.map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    (0..addresses.len()).map(from).collect()
}

/// The module that hands out ready-made lists.
pub fn with_lists(bootstrap: Bootstrap, addresses: &[SocketAddr]) -> Result<Bootstrap> {
    let mut bootstrap = bootstrap.module(&artefacts::built("picker.wasm")?)?;
    let filter = bootstrap.filter_mut("pointsman")?;
    let value = filter.pointer_mut("/typed_config/config/configuration/value");
    *value.context("the filter has no inline configuration")? = lists(addresses).join("\n").into();
    Ok(bootstrap)
}

/// A native filter that writes one list into every request.
pub fn with_one_list(mut bootstrap: Bootstrap, addresses: &[SocketAddr]) -> Result<Bootstrap> {
    let list = lists(addresses).swap_remove(0);
    *bootstrap.filter_mut("pointsman")? = json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": format!("{FILTERS}.header_mutation.v3.HeaderMutation"),
            "mutations": {"request_mutations": [{"append": {
                "header": {"key": LIST, "value": list},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }}]},
        },
    });
    Ok(bootstrap)
}

/// Other routes before the shipped one, as `place` puts them into the virtual host.
pub fn with_routes(
    mut bootstrap: Bootstrap,
    place: impl FnOnce(&mut Value, Vec<Value>, Value),
) -> Result<Bootstrap> {
    let path = "/route_config/virtual_hosts/0";
    let host = bootstrap.manager_mut()?.pointer_mut(path);
    let host = host.context("no virtual host")?;
    let last = host["routes"].as_array().and_then(|routes| routes.last());
    let last = last.context("no route")?.clone();
    let other = |number: u32| {
        let mut route = last.clone();
        route["match"] = json!({"prefix": format!("/other-{number}/")});
        route
    };
    place(host, (0..ROUTES).map(other).collect(), last.clone());
    Ok(bootstrap)
}

/// One after the other.
pub fn prefixes(host: &mut Value, others: Vec<Value>, last: Value) {
    host["routes"] = others.into_iter().chain([last]).collect();
}

/// As a tree of the paths' prefixes.
pub fn tree(host: &mut Value, others: Vec<Value>, last: Value) {
    let leads_to = |mut route: Value| {
        route["@type"] = "type.googleapis.com/envoy.config.route.v3.Route".into();
        json!({"action": {"name": "route", "typed_config": route}})
    };
    let prefix = |route: &Value| {
        route["match"]["prefix"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let map: serde_json::Map<String, Value> = others
        .into_iter()
        .map(|route| (prefix(&route), leads_to(route)))
        .collect();
    if let Some(host) = host.as_object_mut() {
        host.remove("routes");
    }
    host["matcher"] = json!({
        "matcher_tree": {
            "input": {"name": "path", "typed_config": {
                "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                "header_name": ":path",
            }},
            "prefix_match_map": {"map": map},
        },
        "on_no_match": leads_to(last),
    });
}
