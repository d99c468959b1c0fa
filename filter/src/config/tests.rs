mod containers;
mod json_rpc;
mod limits;
mod revisions;

use std::time::Duration;

use serde_json::Value;

use super::reader::ERRORS_MAX;
use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn parse(json: &str) -> Result<FilterConfig, ConfigErrors> {
    FilterConfig::parse(json.as_bytes())
}

fn cluster(fields: &str) -> Result<ClusterConfig, String> {
    let json = format!(r#"{{"name":"orders",{fields}}}"#);
    let value: Value = serde_json::from_str(&json).unwrap();
    ClusterConfig::parse(&value).map_err(|e| e.to_string())
}

/// Checks that a cluster with these fields is refused with exactly this text.
fn refused(fields: &str, text: &str) {
    assert_eq!(cluster(fields).expect_err(fields), text, "{fields}");
}

#[test]
fn one_line_gives_every_default() {
    let read = cluster(r#""backends":[{"address":"10.0.0.1:8080"}]"#).unwrap();
    assert_eq!(read.load_balancing.policy, Policy::PowerOfTwo);
    assert_eq!(read.load_balancing.metric, Metric::Requests);
    assert_eq!((read.retry.attempts, read.backoff.max_tries), (3, 6));
    assert_eq!(read.backoff.max, Duration::from_secs(63));
    assert!(read.sticky.is_none() && read.health_check.is_none() && read.tls.is_none());
    let backend = &read.backends[0];
    assert_eq!(
        (backend.id.as_str(), backend.weight, backend.state),
        ("10.0.0.1:8080", 100, State::Normal)
    );
    assert!(!backend.backup && !backend.id_given);
}

#[test]
fn hc_1_probe_defaults() {
    let read = cluster(r#""healthCheck":{"http":{}},"backends":[]"#)
        .unwrap()
        .health_check
        .unwrap();
    assert_eq!(
        (read.interval, read.timeout),
        (Duration::from_secs(10), Duration::from_secs(5))
    );
    assert_eq!((read.healthy_threshold, read.unhealthy_threshold), (3, 3));
    let Probe::Http(http) = read.probe else {
        panic!("http")
    };
    assert!(http.expects(200) && http.expects(299) && !http.expects(300) && !http.expects(199));
}

#[test]
fn errors_carry_the_path() {
    refused(
        r#""backends":[{"address":"10.0.0.1:1"},{"address":"10.0.0.2:1","weight":-1}]"#,
        "clusters.orders.backends[1].weight: must be a whole number from 0 to 65535, not -1",
    );
    refused(
        r#""retri":{}"#,
        "clusters.orders.retri: is not a known field",
    );
    refused(
        r#""backends":[{"id":"a"}]"#,
        "clusters.orders.backends[0].address: is required",
    );
    refused(
        r#""loadBalancing":{"policy":"Best"}"#,
        "clusters.orders.loadBalancing.policy: must be one of RoundRobin, Random, LeastLoaded, \
         PowerOfTwo, Tiered, Rendezvous, Maglev, not \"Best\"",
    );
    refused(
        r#""backoff":{"base":"5s","max":"1s"}"#,
        "clusters.orders.backoff.max: must not be shorter than base",
    );
    refused(
        r#""passive":{"cooldown":{"base":"5s","max":"1s"}}"#,
        "clusters.orders.passive.cooldown.max: must not be shorter than base",
    );
    refused(
        r#""passive":{"cooldown":{"statuses":[]}}"#,
        "clusters.orders.passive.cooldown.statuses: must have at least one",
    );
    refused(
        r#""passive":{"cooldown":{"statuses":[429,200]}}"#,
        "clusters.orders.passive.cooldown.statuses[1]: must be a status from 400 to 599 or from \
         grpc:1 to grpc:16, not 200",
    );
    refused(
        r#""passive":{"failures":["RefusedStream"]}"#,
        "clusters.orders.passive.failures[0]: must be one of ConnectFailure, Reset, Timeout, \
         GatewayError, ServerError or a status from 400 to 599 or from grpc:1 to grpc:16, not \
         \"RefusedStream\"",
    );
    for code in [
        "grpc:0", "grpc:17", "grpc:+1", "grpc:01", "grpc:", "grpc:1.0", "429",
    ] {
        refused(
            &format!(r#""passive":{{"cooldown":{{"statuses":["{code}"]}}}}"#),
            &format!(
                "clusters.orders.passive.cooldown.statuses[0]: must be a status from 400 to 599 or \
                 from grpc:1 to grpc:16, not \"{code}\""
            ),
        );
    }
    refused(
        r#""retry":{"on":["Timeout"]}"#,
        "clusters.orders.retry.on[0]: must be one of ConnectFailure, RefusedStream, \
         ResetBeforeRequest, Reset, GatewayError, ServerError or a status from 400 to 599 or one of \
         grpc:1, grpc:4, grpc:8, grpc:13, grpc:14, not \"Timeout\"",
    );
    refused(
        r#""passive":{"untilProbed":true}"#,
        "clusters.orders.passive.untilProbed: is not a known field",
    );
    refused(
        r#""retry":{"perTryTimeout":"1s"}"#,
        "clusters.orders.retry.perTryTimeout: needs Reset or GatewayError in on: Envoy retries it \
         under no other",
    );
    refused(
        r#""healthCheck":{"interval":"1s"}"#,
        "clusters.orders.healthCheck: must have exactly one of http and tcp",
    );
}

#[test]
fn addresses_are_ip_and_port() {
    for bad in [
        "localhost:80",
        "http://10.0.0.1",
        "10.0.0.1",
        "10.0.0.1:0",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "[fe80::1%1]:80",
        "[::ffff:0.0.0.0]:80",
        "[::127.0.0.1]:80",
        "[::7f00:1]:80",
        "",
    ] {
        let fields = format!(r#""backends":[{{"address":"{bad}"}}]"#);
        let error = cluster(&fields).expect_err(bad);
        assert!(
            error.starts_with("clusters.orders.backends[0].address: must"),
            "{error}"
        );
    }
    for (given, canonical) in [
        ("[0:0::1]:021002", "[::1]:21002"),
        ("[2001:DB8::0:1]:80", "[2001:db8::1]:80"),
        ("[::ffff:a00:1]:80", "10.0.0.1:80"),
    ] {
        let fields = format!(r#""backends":[{{"address":"{given}"}}]"#);
        let backend = cluster(&fields).unwrap().backends.remove(0);
        assert_eq!(
            (backend.address.to_string(), backend.id),
            (canonical.into(), canonical.into())
        );
    }
}

#[test]
fn hc_2_bad_health_checks_are_refused() {
    for bad in [
        r#"{"http":{"path":"healthz"}}"#,
        r#"{"http":{"path":"/a b"}}"#,
        r#"{"http":{"path":"/a\r\nb"}}"#,
        r#"{"http":{},"interval":"0s"}"#,
        r#"{"http":{},"timeout":"0s"}"#,
        r#"{"http":{},"healthyThreshold":0}"#,
        r#"{"http":{},"unhealthyThreshold":0}"#,
        r#"{"http":{"expectedStatuses":["299-200"]}}"#,
        r#"{"http":{"expectedStatuses":[99]}}"#,
        r#"{"http":{},"tcp":{}}"#,
        r#"{"http":{"headers":[{"name":"host","value":"x"}]}}"#,
    ] {
        assert!(
            cluster(&format!(r#""healthCheck":{bad}"#)).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn st_9_sticky_ids_and_cookies_are_checked() {
    for bad in ["a;b", "a b", "a\\r\\nb", "a,b", "", "a\\\"b"] {
        let fields = format!(r#""backends":[{{"address":"10.0.0.1:1","stickyId":"{bad}"}}]"#);
        assert!(cluster(&fields).is_err(), "{bad}");
    }
    refused(
        r#""sticky":{"sameSite":"None"}"#,
        "clusters.orders.sticky.sameSite: must not be None unless secure is true",
    );
    assert!(cluster(r#""sticky":{"cookie":"a b"}"#).is_err());
    for path in ["", "shop", "/a;b", "/a b", "/ä"] {
        let fields = format!(r#""sticky":{{"path":"{path}"}}"#);
        assert!(cluster(&fields).is_err(), "{path}");
    }
}

#[test]
fn a_sticky_value_is_never_an_address() {
    let read = cluster(
        r#""backends":[{"address":"10.0.0.1:1"},{"id":"b","address":"10.0.0.2:1"},
        {"id":"c","address":"10.0.0.3:1","stickyId":"s"},{"id":"d e","address":"10.0.0.4:1"}]"#,
    )
    .unwrap();
    let values: Vec<String> = read.backends.iter().map(|b| b.sticky_value()).collect();
    assert_eq!(
        (values[0].len(), values[1].as_str(), values[2].as_str()),
        (8, "b", "s")
    );
    assert!(policy::is_cookie_value(&values[3]) && !values[0].contains('.'));
}

#[test]
fn ids_and_names_are_unique() {
    refused(
        r#""backends":[{"id":"a","address":"10.0.0.1:1"},{"id":"a","address":"10.0.0.2:1"}]"#,
        "clusters.orders.backends[1].id: must be unique, but \"a\" stands above",
    );
    let twice = parse(r#"{"schema":1,"clusters":[{"name":"a"},{"name":"a"}]}"#);
    assert_eq!(
        twice.expect_err("twice").to_string(),
        "clusters.a: must be unique, but the name stands above"
    );
}

#[test]
fn lb_12_a_key_has_one_source_and_a_use() {
    let at = "clusters.orders.loadBalancing";
    let one = "must have exactly one of header, cookie and sourceIp";
    for sources in [
        r#"{"header":"a","cookie":"b"}"#,
        r#"{"cookie":"b","sourceIp":true}"#,
        r#"{"sourceIp":false}"#,
        "{}",
    ] {
        let fields = format!(r#""loadBalancing":{{"policy":"Maglev","affinity":{sources}}}"#);
        refused(&fields, &format!("{at}.affinity: {one}"));
    }
    refused(
        r#""loadBalancing":{"policy":"Random","affinity":{"header":"a"}}"#,
        &format!("{at}.affinity: needs policy Rendezvous or Maglev, or shuffleShard"),
    );
    refused(
        r#""loadBalancing":{"policy":"Maglev","affinity":{"header":"a b"}}"#,
        &format!("{at}.affinity.header: must be a name: letters, digits, - and _"),
    );
    for size in [4, 65_535, 516_961] {
        let fields = format!(r#""loadBalancing":{{"maglevTableSize":{size}}}"#);
        refused(&fields, &format!("{at}.maglevTableSize: must be a prime"));
    }
    for size in [2, 3, 65_537, 524_287] {
        let fields = format!(r#""loadBalancing":{{"maglevTableSize":{size}}}"#);
        assert!(cluster(&fields).is_ok(), "{size}");
    }
    let source = |fields: &str| {
        let fields = format!(r#""loadBalancing":{{{fields}}}"#);
        cluster(&fields).unwrap().load_balancing.key_source()
    };
    assert_eq!(source(r#""policy":"Random""#), None);
    assert_eq!(source(r#""policy":"Maglev""#), Some(Affinity::SourceIp));
    assert_eq!(source(r#""shuffleShard":{}"#), Some(Affinity::SourceIp));
    let header = r#""policy":"Rendezvous","affinity":{"header":"X-User"}"#;
    assert_eq!(source(header), Some(Affinity::Header("x-user".to_owned())));
}

#[test]
fn slow_start_is_of_policies_that_weigh_anew() {
    let fields =
        |policy: &str| format!(r#""loadBalancing":{{"policy":"{policy}","slowStart":{{}}}}"#);
    for policy in ["RoundRobin", "Random", "LeastLoaded", "PowerOfTwo"] {
        let read = cluster(&fields(policy)).unwrap().load_balancing;
        let slow_start = read.slow_start.unwrap();
        assert_eq!(slow_start.window, Duration::from_secs(30));
        assert_eq!(slow_start.min_weight_percent, 10);
    }
    let why = "needs policy RoundRobin, Random, LeastLoaded or PowerOfTwo";
    for policy in ["Tiered", "Rendezvous", "Maglev"] {
        refused(
            &fields(policy),
            &format!("clusters.orders.loadBalancing.slowStart: {why}"),
        );
    }
    for (bad, why) in [
        (r#"{"window":"0s"}"#, "window: must be a duration such as"),
        (
            r#"{"minWeightPercent":0}"#,
            "minWeightPercent: must be a whole number from 1 to 100",
        ),
    ] {
        let error = cluster(&format!(r#""loadBalancing":{{"slowStart":{bad}}}"#)).expect_err(bad);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn rt_16_averages_are_of_tiered_alone() {
    let balancing = |fields: &str| {
        let fields = format!(r#""loadBalancing":{{{fields}}}"#);
        cluster(&fields).map(|read| read.load_balancing)
    };
    let tiered = |fields: &str| balancing(&format!(r#""policy":"Tiered"{fields}"#));
    let averages = |fields: &str| {
        let averaging = tiered(fields).unwrap().averages().unwrap();
        (averaging.smoothing, averaging.initial_latency.as_millis())
    };
    assert_eq!(averages(""), (100, 5000));
    assert_eq!(averages(r#","smoothing":1"#), (1000, 5000));
    assert_eq!(
        averages(r#","smoothing":0.001,"initialLatency":"0s""#),
        (1, 0)
    );
    assert_eq!(
        averages(r#","smoothing":0.2996,"initialLatency":"60s""#),
        (300, 60_000)
    );
    assert_eq!(balancing("").unwrap().averages(), None);
    let at = "clusters.orders.loadBalancing";
    for (bad, shown) in [
        ("0", "0"),
        ("0.0009", "0.0009"),
        ("1.01", "1.01"),
        ("-1", "-1"),
        ("\"a\"", "\"a\""),
    ] {
        let error = tiered(&format!(r#","smoothing":{bad}"#)).expect_err(bad);
        let why = format!("{at}.smoothing: must be a number from 0.001 to 1, not {shown}");
        assert!(error.contains(&why), "{error}");
    }
    let error = tiered(r#","initialLatency":"61s""#).expect_err("too long");
    assert!(
        error.contains("initialLatency: must be a duration such as"),
        "{error}"
    );
    for field in [r#""smoothing":0.1"#, r#""initialLatency":"5s""#] {
        let error = balancing(field).expect_err(field);
        assert!(error.contains(": needs policy Tiered"), "{error}");
    }
}

#[test]
fn a_newer_modules_policies_and_keys_are_passed_over() {
    let json = format!(
        r#"{{"schema":{},"clusters":[{{"name":"a","loadBalancing":{{"policy":"Newest",
        "affinity":{{"header":"x"}}}}}},{{"name":"b","loadBalancing":{{"policy":"Maglev",
        "affinity":{{"query":"x"}},"shuffleShard":{{"whenExhausted":"Ask"}}}}}}]}}"#,
        SCHEMA + 1
    );
    let read = parse(&json).expect("no error");
    let [a, b] = &read.clusters[..] else {
        panic!("{read:?}");
    };
    assert_eq!(a.load_balancing.key_source(), None);
    assert_eq!(b.load_balancing.key_source(), Some(Affinity::SourceIp));
    let shards = b.load_balancing.shuffle_shard.expect("shards");
    assert_eq!(shards.when_exhausted, WhenExhausted::Spill);
    // The policy, and that the key has no use; the source and its field; what is done when exhausted.
    assert_eq!(read.ignored_fields, 5);
}

#[test]
fn errors_are_many_but_bounded() {
    let bad: Vec<String> = (0..100).map(|_| r#"{"weight":-1}"#.to_owned()).collect();
    let error = cluster(&format!(r#""backends":[{}]"#, bad.join(","))).expect_err("bad");
    assert!(error.matches("; ").count() < ERRORS_MAX, "{error}");
    assert!(error.len() < 4000);
}

fn forget_probes(config: &mut FilterConfig) {
    for cluster in &mut config.clusters {
        cluster.health_check = None;
    }
}
