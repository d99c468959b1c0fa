//! Nothing that comes from outside makes a reader panic, and what one writes another reads.

// proptest's randomness does not build for wasm32.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "parsers/addresses.rs"]
mod addresses;
#[path = "parsers/fields.rs"]
mod fields;
#[path = "parsers/json_rpc.rs"]
mod json_rpc;

use pointsman_filter::base::hash::{BackendKey, ClientKey, LoadKey};
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::averages::Average;
use pointsman_filter::cluster::clients::ClientReport;
use pointsman_filter::cluster::load::LoadReport;
use pointsman_filter::config::{ClusterConfig, ConfigErrors, FilterConfig};
use pointsman_filter::fleet::exchange::{Answer, ClusterVerdicts, Rejection, Request, Version};
use pointsman_filter::fleet::heartbeat::Heartbeat;
use pointsman_filter::fleet::identity::Identity;
use pointsman_filter::fleet::lease::{Claimant, Lease, LeaseWatch};
use pointsman_filter::gates::Gates;
use pointsman_filter::stream::cookie::take_out;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// A container that says something about every field of the schema.
fn a_full_document() -> Value {
    json!({
        "schema": 1, "revision": "00000000000000aa", "header": "x-list",
        "exchange": {"cluster": "pointsman_sidecar", "token": "t", "verdictTtl": "30s"},
        "clusters": [{
            "name": "orders", "http2": true, "whenAllUnhealthy": "Refuse",
            "loadBalancing": {"policy": "Maglev", "metric": "Latency", "maglevTableSize": 251,
                "affinity": {"header": "x"},
                "shuffleShard": {"percent": 50, "minBackends": 4, "whenExhausted": "Refuse"}},
            "sticky": {"cookie": "P", "path": "/shop", "httpOnly": true, "secure": true, "sameSite": "None"},
            "healthCheck": {
                "http": {"path": "/healthz", "method": "GET", "host": "a",
                    "expectedStatuses": ["200-299"], "body": "",
                    "headers": [{"name": "x-a", "value": "1"}]},
                "port": 8, "interval": "10s", "timeout": "5s",
                "healthyThreshold": 3, "unhealthyThreshold": 3},
            "retry": {"attempts": 3, "on": ["ConnectFailure", "Reset", 503, "grpc:14"], "perTryTimeout": "1s"},
            "backoff": {"base": "1s", "max": "63s", "maxTries": 6, "halfOpen": false},
            "passive": {
                "failures": ["ConnectFailure", "ServerError", 404, "grpc:14"], "consecutive": 3,
                "maxEjectedPercent": 30,
                "cooldown": {"statuses": [429, "grpc:8"], "base": "1s", "max": "20s", "honorRetryAfter": false}},
            "timeouts": {"connect": "250ms"},
            "tls": {"sni": "a", "caFile": "/ca.pem"},
            "limits": {"maxRequests": 5, "maxPendingRequests": 4, "maxConnections": 3,
                "maxStreamsPerClient": 2, "retryAfter": "5s"},
            "rateLimit": {"perSecond": 50, "burst": 7},
            "jsonRpc": {"maxBatch": 9, "maxBodyBytes": 1024, "errors": "Map", "methods": ["a_b", "$/c"]},
            "refusal": {"body": "away", "contentType": "text/plain"},
            "backends": [
                {"id": "a", "address": "10.0.0.1:80", "weight": 5, "backup": true,
                    "stickyId": "s", "state": "Draining", "maxInFlight": 9,
                    "rateLimit": {"perSecond": 2, "burst": 1}},
                {"address": "[2001:db8::1]:80"}]
        }, {"name": "plain", "healthCheck": {"tcp": {}}},
        {"name": "c", "loadBalancing": {"policy": "Maglev", "affinity": {"cookie": "c"}}},
        {"name": "d", "loadBalancing": {"policy": "Maglev", "affinity": {"sourceIp": true}}},
        {"name": "e", "loadBalancing": {"slowStart": {"window": "9s", "minWeightPercent": 5}}},
        {"name": "f", "loadBalancing": {"policy": "Tiered", "smoothing": 0.25, "initialLatency": "1s"}}]
    })
}

/// Any JSON, with the schema's own names and words in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = select(vec![
        "name",
        "backends",
        "address",
        "clusters",
        "schema",
        "10.0.0.1:80",
        "10s",
        "weight",
        "99999999999999999999h",
        "-1s",
        "",
        "Reset",
        "[::1]:0",
        "\u{0}",
        "é\"\\",
    ]);
    json(word)
}

/// JSON whose objects have these names, and whose values have them too.
fn json(
    word: impl Strategy<Value = &'static str> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The paths of everything inside a document.
fn pointers(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_owned());
    match value {
        Value::Object(map) => {
            map.iter()
                .for_each(|(name, inner)| pointers(inner, &format!("{path}/{name}"), into));
        }
        Value::Array(items) => {
            let numbered = (0..).zip(items);
            numbered.for_each(|(i, inner): (u32, _)| pointers(inner, &format!("{path}/{i}"), into));
        }
        _ => {}
    }
}

fn check_errors(errors: &ConfigErrors) -> Result<(), TestCaseError> {
    prop_assert!((1..=20).contains(&errors.0.len()), "{}", errors);
    prop_assert!(errors.0.iter().all(|error| !error.why.is_empty()));
    Ok(())
}

/// What is read, written and read again is the same; what is refused says why.
fn check_container(value: &Value) -> Result<(), TestCaseError> {
    match FilterConfig::parse(value.to_string().as_bytes()) {
        Ok(mut config) if config.ignored_fields == 0 => {
            for cluster in &mut config.clusters {
                let again = ClusterConfig::parse(&cluster.to_value());
                prop_assert_eq!(again.as_ref(), Ok(&*cluster));
                // Filters are not sent the probes.
                cluster.health_check = None;
            }
            let again = FilterConfig::parse(config.to_json().as_bytes());
            prop_assert_eq!(again, Ok(config));
        }
        Ok(_) => {}
        Err(errors) => check_errors(&errors)?,
    }
    Ok(())
}

fn keys() -> impl Strategy<Value = Vec<u64>> {
    vec(any::<u64>(), 0..5)
}

prop_compose! {
    fn a_version()(epoch in any::<u64>(), counter in any::<u64>(), revision in any::<u64>()) -> Version {
        Version { epoch, counter, revision }
    }
}

#[test]
fn the_full_document_is_valid_and_has_every_field_of_the_parser() {
    check_container(&a_full_document()).unwrap();
    FilterConfig::parse(a_full_document().to_string().as_bytes()).unwrap();
    assert_eq!(
        fields::of_document(&a_full_document()),
        fields::of_the_parser()
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        check_container(&value)?;
        if let Err(errors) = ClusterConfig::parse(&value) {
            check_errors(&errors)?;
        }
    }

    #[test]
    fn a_mutated_document_is_read_or_refused(
        changes in vec((any::<Index>(), prop::option::weighted(0.8, any_json())), 1..4),
        schema in prop::option::weighted(0.2, 0u64..4),
    ) {
        let mut document = a_full_document();
        if let Some(schema) = schema {
            document["schema"] = schema.into();
        }
        for (place, change) in changes {
            let mut paths = Vec::new();
            pointers(&document, "", &mut paths);
            let path = place.get(&paths);
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", ""));
            match (change, document.pointer_mut(parent)) {
                (None, Some(Value::Object(map))) => drop(map.remove(name)),
                (None, _) => {}
                (Some(value), _) => *document.pointer_mut(path).unwrap() = value,
            }
        }
        check_container(&document)?;
    }

    #[test]
    fn any_bytes_are_a_configuration_or_refused(
        cut in any::<Index>(),
        byte in any::<u8>(),
        noise in vec(any::<u8>(), 0..60),
    ) {
        let mut document = a_full_document().to_string().into_bytes();
        let place = cut.index(document.len());
        *document.get_mut(place).unwrap() = byte;
        for bytes in [&document, &noise] {
            if let Err(errors) = FilterConfig::parse(bytes) {
                check_errors(&errors)?;
            }
        }
    }

    #[test]
    fn any_bytes_are_a_cookie_header(
        pairs in vec((select(vec!["P", "PP", "p", "x", ""]), vec(any::<u8>(), 0..6)), 0..6),
        joint in select(vec![";", "; ", " ;", ";;"]),
    ) {
        let pairs = pairs.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat());
        let header = pairs.collect::<Vec<_>>().join(joint.as_bytes());
        match take_out(&header, "P") {
            None => prop_assert!(!header.starts_with(b"P=")),
            Some(cookies) => {
                prop_assert_eq!(take_out(&cookies.others, "P"), None, "none is left");
                prop_assert!(cookies.others.len() < header.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_an_exchange_message_or_refused(
        noise in vec(any::<u8>(), 0..80),
        value in any_json(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut answer = Answer { full: true, ..Answer::default() }.to_json().into_bytes();
        let place = at.index(answer.len());
        *answer.get_mut(place).unwrap() = byte;
        for bytes in [noise, value.to_string().into_bytes(), answer] {
            let refused = Request::parse(&bytes).err();
            prop_assert!(refused.is_none_or(|error| !error.to_string().is_empty()));
            let refused = Answer::parse(&bytes).err();
            prop_assert!(refused.is_none_or(|error| !error.to_string().is_empty()));
        }
    }

    #[test]
    fn exchange_messages_read_back(
        node in ".{0,20}",
        (process, workers, have) in (any::<Option<u64>>(), any::<u32>(), a_version()),
        (at, revisions) in (any::<Option<u64>>(), keys()),
        rejected in prop::option::of((any::<u64>(), ".{0,20}")),
        clusters in vec((".{0,9}", keys(), keys()), 0..4),
        full in any::<bool>(),
    ) {
        let rejected = rejected.map(|(revision, reason)| Rejection { revision, reason });
        let clusters = clusters.into_iter().map(|(name, unhealthy, healthy)| {
            let keys = |keys: Vec<u64>| keys.into_iter().map(BackendKey).collect();
            ClusterVerdicts { name, unhealthy: keys(unhealthy), healthy: keys(healthy) }
        });
        let unhealthy: Vec<ClusterVerdicts> = clusters.collect();
        let (clusters, hand_back) = (unhealthy.clone(), !full);
        let unhealthy = full.then_some(unhealthy);
        let at = at.map(WallTime::from_ns);
        let request = Request { node, process, at, workers, revisions, rejected, have, unhealthy };
        prop_assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
        let answer = Answer { version: have, full, clusters, hand_back };
        prop_assert_eq!(Answer::parse(answer.to_json().as_bytes()), Ok(answer));
    }

    #[test]
    fn records_of_shared_data_read_back_or_are_ignored(
        noise in vec(any::<u8>(), 0..120),
        (vm, at, revision, process) in any::<(u64, u64, u64, u64)>(),
        (picked_at, holds_leaving) in any::<(u64, bool)>(),
        loads in vec(any::<(u64, u32, u64)>(), 0..9),
        clients in vec(any::<(u64, u32)>(), 0..9),
        now in any::<u64>(),
    ) {
        let (at, now) = (WallTime::from_ns(at), WallTime::from_ns(now));
        let picked_at = WallTime::from_ns(picked_at);
        let loads = loads.into_iter().map(|(key, in_flight, estimate_ns)| {
            let average = (estimate_ns % 2 == 1).then_some(Average {
                latency_ns: key, penalty_ns: estimate_ns, fed_at: WallTime::from_ns(estimate_ns),
            });
            LoadReport { key: LoadKey(key), in_flight, estimate_ns, average }
        });
        let loads = loads.collect();
        let clients = clients.into_iter().map(|(key, streams)| {
            ClientReport { key: ClientKey(key), streams }
        });
        let clients = clients.collect();
        let heartbeat =
            Heartbeat { vm, at, revision, process, picked_at, holds_leaving, loads, clients };
        let _ = (heartbeat.is_live(now), heartbeat.runs(now));
        prop_assert_eq!(Heartbeat::decode(&heartbeat.encode()), Some(heartbeat));
        let lease = Lease { vm, until: at, revision, picked_at };
        prop_assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        let identity = Identity { vm, process };
        prop_assert_eq!(Identity::next(&identity.encode(), now.ns()).process, process);
        let claimant = Claimant { vm, revision, configured_at: at, picked_at };
        let claim = Lease::claim(LeaseWatch::default().held(&noise, 1, now), &claimant, now);
        prop_assert!(claim.is_none_or(|claim| claim.vm == vm));
        if let Some(heartbeat) = Heartbeat::decode(&noise) {
            prop_assert_eq!(Heartbeat::decode(&heartbeat.encode()), Some(heartbeat));
        }
        let gates = Gates::decode(&noise);
        prop_assert_eq!(Gates::decode(&gates.encode()), gates);
    }
}
