//! What is promised, case by case.

use envoy_types::pb::envoy::config::core::v3::{HealthStatus, TypedExtensionConfig};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::google::protobuf::{Any, Duration, StringValue};
use prost::{Message, Name};
use serde_json::{Value, json};

use super::*;

mod tls;

fn document(value: Value) -> ClusterConfig {
    ClusterConfig::parse(&value).unwrap()
}

fn assignment(backends: Value, leaving: &[&str]) -> ClusterLoadAssignment {
    let config = document(json!({"name": "a", "backends": backends}));
    let leaving = leaving
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    endpoints::endpoints(&config, &leaving)
}

/// Every endpoint as `priority/port/health/weight`.
fn words(assignment: &ClusterLoadAssignment) -> String {
    let words = assignment.endpoints.iter().flat_map(|locality| {
        let of = |endpoint: &LbEndpoint| {
            let text = format!("{:?}", endpoint.host_identifier);
            let port = text
                .split("PortValue(")
                .nth(1)
                .and_then(|t| t.split(')').next());
            let health = match endpoint.health_status() {
                HealthStatus::Healthy => "open",
                HealthStatus::Draining => "draining",
                other => panic!("{other:?}"),
            };
            let weight = endpoint.load_balancing_weight.unwrap().value;
            format!("{}/{}/{health}/{weight}", locality.priority, port.unwrap())
        };
        locality.lb_endpoints.iter().map(of).collect::<Vec<_>>()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn endpoints_say_what_the_fallback_may_do() {
    let at = |port: u16| format!("10.0.0.1:{port}");
    let cases = [
        (json!([]), ""),
        (
            json!([{"address": at(2)}, {"address": at(1), "weight": 7}]),
            "0/1/open/7 0/2/open/100",
        ),
        (
            json!([{"address": at(1), "state": "Draining"}, {"address": at(2), "state": "Cordoned"},
                   {"address": at(3), "weight": 0}, {"address": at(4)}]),
            "0/1/draining/1 0/2/draining/1 0/3/draining/1 0/4/open/100",
        ),
        // All 0: all alike, and per tier.
        (
            json!([{"address": at(1), "weight": 0}, {"address": at(2), "weight": 0},
                   {"address": at(3), "backup": true}]),
            "0/1/open/1 0/2/open/1 1/3/open/100",
        ),
        (json!([{"address": at(1), "backup": true}]), "0/1/open/100"),
        // Ids that share an address form one share.
        (
            json!([{"id": "x", "address": at(1), "weight": 3},
                   {"id": "y", "address": at(1), "weight": 4, "backup": true},
                   {"id": "z", "address": at(1), "weight": 5, "state": "Draining"}]),
            "0/1/open/7",
        ),
        (
            json!([{"id": "x", "address": at(1), "state": "Cordoned"},
                   {"id": "y", "address": at(1), "state": "Draining"}]),
            "0/1/draining/1",
        ),
    ];
    for (backends, expected) in cases {
        assert_eq!(
            words(&assignment(backends.clone(), &[])),
            expected,
            "{backends}"
        );
    }
}

#[test]
fn what_leaves_takes_nothing_new() {
    let backends = json!([{"address": "10.0.0.1:1"}]);
    let both = assignment(backends.clone(), &["10.0.0.1:2"]);
    assert_eq!(words(&both), "0/1/open/100 0/2/draining/1");
    let back = assignment(backends, &["10.0.0.1:1"]);
    assert_eq!(
        words(&back),
        "0/1/open/100",
        "what came back is not leaving"
    );
}

#[test]
fn addresses_are_spelled_as_envoy_spells_them() {
    let message = assignment(json!([{"address": "[0:0::1]:80"}]), &[]);
    assert!(format!("{message:?}").contains(r#"address: "::1""#));
}

#[test]
fn a_cluster_that_only_has_a_name_is_whole() {
    let message = cluster::cluster(&document(json!({"name": "a"})));
    let text = format!("{message:?}");
    assert_eq!(message.name, "a");
    assert!(message.ignore_health_on_host_removal);
    assert!(message.transport_socket.is_none());
    let thresholds = &message.circuit_breakers.unwrap().thresholds;
    assert_eq!(thresholds.len(), 2, "routes of either priority");
    let floor = |t: &envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds| {
        t.retry_budget.unwrap().min_retry_concurrency.unwrap().value
    };
    assert!(thresholds.iter().all(|t| floor(t) >= 100_000));
    assert!(text.contains("envoy.load_balancing_policies.override_host"));
}

/// RL-7.
#[test]
fn rl_7_limits_are_envoys_circuit_breakers() {
    let breakers = |limits: Value| {
        let message = cluster::cluster(&document(json!({"name": "a", "limits": limits})));
        let thresholds = message.circuit_breakers.unwrap().thresholds.into_iter();
        let counts = thresholds.map(|it| {
            [it.max_requests, it.max_pending_requests, it.max_connections]
                .map(|it| it.unwrap().value)
        });
        counts.collect::<Vec<_>>()
    };
    let none = [1_000_000; 3];
    assert_eq!(breakers(json!({})), [none; 2]);
    let limits = json!({"maxRequests": 7, "maxPendingRequests": 3, "maxConnections": 5});
    assert_eq!(
        breakers(limits),
        [[7, 3, 5]; 2],
        "routes of either priority"
    );
    let others = json!({"maxStreamsPerClient": 2, "retryAfter": "1s"});
    assert_eq!(breakers(others), [none; 2], "the filter's own");
}

#[test]
fn a_connection_has_the_time_that_the_document_gives_it() {
    let time = |timeouts: Value| {
        let message = cluster::cluster(&document(json!({"name": "a", "timeouts": timeouts})));
        message.connect_timeout.map(|it| (it.seconds, it.nanos))
    };
    assert_eq!(time(json!({})), Some((1, 0)));
    assert_eq!(time(json!({"connect": "2500ms"})), Some((2, 500_000_000)));
}

/// Whatever the document says of retries, and whichever protocol its backends speak.
#[test]
fn every_cluster_has_the_same_retry_policy_which_voids_the_routes() {
    let options = |value: Value| {
        let message = cluster::cluster(&document(value));
        let options: Vec<&Any> = message.typed_extension_protocol_options.values().collect();
        let [options] = options[..] else {
            panic!("{options:?}")
        };
        HttpProtocolOptions::decode(&options.value[..]).unwrap()
    };
    let plain = options(json!({"name": "a"}));
    let policy = plain.retry_policy.clone().unwrap();
    assert_eq!(
        (policy.retry_on.as_str(), policy.num_retries.unwrap().value),
        ("", 0)
    );
    let wait = policy.retry_back_off.unwrap();
    let milliseconds = |wait: Option<Duration>| wait.unwrap().nanos / 1_000_000;
    let (base, max) = (wait.base_interval, wait.max_interval);
    assert_eq!((milliseconds(base), milliseconds(max)), (2, 20));

    let attempts = options(json!({"name": "a", "retry": {"attempts": 7}}));
    assert_eq!(attempts, plain, "attempts never move a cluster");
    let answers = options(json!({"name": "a", "retry": {"on": ["ServerError"]}}));
    assert_eq!(answers.retry_policy, plain.retry_policy);
    let h2 = options(json!({"name": "a", "http2": true}));
    assert_eq!(h2.retry_policy, plain.retry_policy);
    assert_ne!(
        h2.upstream_protocol_options,
        plain.upstream_protocol_options
    );
}

/// Only there: an attempt costs more with it.
#[test]
fn a_cluster_that_retries_answers_or_timeouts_has_the_module_upstream() {
    let filters = |retry: Value| {
        let message = cluster::cluster(&document(json!({"name": "a", "retry": retry})));
        let options = message.typed_extension_protocol_options.values().next();
        let options = HttpProtocolOptions::decode(&options.unwrap().value[..]).unwrap();
        options.http_filters
    };
    for retry in [
        json!({}),
        json!({"on": ["ConnectFailure", "Reset"]}),
        json!({"on": ["ServerError"], "attempts": 1}),
        json!({"on": ["Reset"], "perTryTimeout": "1s", "attempts": 1}),
        json!({"on": [], "attempts": 5}),
    ] {
        assert_eq!(filters(retry.clone()), [], "{retry}");
    }
    for retry in [
        json!({"on": ["ServerError"]}),
        json!({"on": ["GatewayError", "ConnectFailure"]}),
        json!({"on": [429]}),
        json!({"on": ["Reset"], "perTryTimeout": "1s"}),
    ] {
        let [role, codec] = &filters(retry.clone())[..] else {
            panic!("{retry}");
        };
        assert_eq!(role.name, "pointsman-upstream");
        assert_eq!(codec.name, "envoy.filters.http.upstream_codec", "the last");
        let Some(ConfigType::ConfigDiscovery(found)) = &role.config_type else {
            panic!("{role:?}");
        };
        let source = found.config_source.as_ref().unwrap();
        assert_eq!(source.initial_fetch_timeout.unwrap().seconds, 2);
        let default = found.default_config.as_ref().unwrap();
        let types = [Wasm::type_url(), default.type_url.clone()];
        assert_eq!(
            found.type_urls, types,
            "nothing is in the way where there is no module"
        );
    }
}

#[test]
fn both_roles_are_one_module_in_one_vm_and_one_of_them_never_changes() {
    let code = Code::Path("/f.wasm".to_owned());
    let roles = |documents: Vec<ClusterConfig>| {
        let config = FilterConfig::new(documents, None);
        let served = std::iter::empty();
        let filters = snapshot(served, &Trust::default(), &config, &code).filters;
        ["pointsman", "pointsman-upstream"].map(|name| {
            let body = &filters.get(name).unwrap().body;
            let filter = TypedExtensionConfig::decode(&body[..]).unwrap();
            assert_eq!(filter.name, name);
            let any = filter.typed_config.unwrap();
            let plugin = Wasm::decode(&any.value[..]).unwrap().config.unwrap();
            assert_eq!(
                (plugin.root_id.as_str(), plugin.name.as_str()),
                (name, name)
            );
            plugin
        })
    };
    let [filter, upstream] = roles(vec![document(json!({"name": "a"}))]);
    assert_eq!(filter.vm, upstream.vm);
    assert_eq!(filter.reload_config, upstream.reload_config);
    assert_eq!(roles(Vec::new())[1], upstream);
}

#[test]
fn the_filter_gets_its_configuration_as_text() {
    let config = FilterConfig::new(vec![document(json!({"name": "a"}))], None);
    let message: TypedExtensionConfig = filter::filter(&config, &Code::Path("/f.wasm".to_owned()));
    assert_eq!(message.name, "pointsman");
    let any = message.typed_config.unwrap();
    let plugin = Wasm::decode(any.value.as_slice()).unwrap().config.unwrap();
    assert_eq!(
        (plugin.name.as_str(), plugin.root_id.as_str()),
        ("pointsman", "pointsman")
    );
    assert_eq!(plugin.failure_policy(), FailurePolicy::FailReload);
    let wait = plugin
        .reload_config
        .unwrap()
        .backoff
        .unwrap()
        .base_interval
        .unwrap();
    assert_eq!(
        (wait.seconds, wait.nanos),
        (0, 20_000_000),
        "1 ms kills Envoy"
    );
    let switch = plugin.allow_on_headers_stop_iteration.map(|it| it.value);
    assert_eq!(switch, Some(true), "without it no body is handed over");
    let text = StringValue::decode(plugin.configuration.unwrap().value.as_slice()).unwrap();
    assert_eq!(text.value, config.to_json());
    let Some(Vm::VmConfig(vm)) = plugin.vm else {
        panic!("no VM");
    };
    assert_eq!(
        (vm.vm_id.as_str(), vm.runtime.as_str()),
        ("pointsman", "envoy.wasm.runtime.v8")
    );
    assert!(format!("{:?}", vm.code).contains(r#"Filename("/f.wasm")"#));
}

#[test]
fn versions_follow_content_alone() {
    let config = FilterConfig::new(vec![document(json!({"name": "a"}))], None);
    let code = Code::Inline(vec![1, 2, 3]);
    let of = |documents: &[Value]| {
        let documents: Vec<ClusterConfig> = documents.iter().cloned().map(document).collect();
        let served = documents.iter().map(|config| Served {
            config,
            leaving: BTreeSet::new(),
        });
        snapshot(served, &Trust::default(), &config, &code)
    };
    let backend = |port: u16| json!({"address": format!("10.0.0.1:{port}")});
    let one = of(&[json!({"name": "a", "http2": true, "backends": [backend(1), backend(2)]})]);
    let same = of(&[json!({"name": "a", "http2": true, "backends": [backend(2), backend(1)]})]);
    assert_eq!(one.endpoints.version(), same.endpoints.version());
    assert_eq!(one.clusters.version(), same.clusters.version());
    let other = of(&[json!({"name": "a", "backends": [backend(1), backend(2)]})]);
    assert_eq!(one.endpoints.version(), other.endpoints.version());
    assert_ne!(one.clusters.version(), other.clusters.version());
    let moved = of(&[json!({"name": "a", "http2": true, "backends": [backend(1)]})]);
    assert_ne!(one.endpoints.version(), moved.endpoints.version());
    assert_eq!(one.clusters.version(), moved.clusters.version());
}
