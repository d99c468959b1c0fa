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
         PowerOfTwo, not \"Best\"",
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
        "clusters.orders.passive.cooldown.statuses[1]: must be a status from 400 to 599, not 200",
    );
    refused(
        r#""passive":{"failures":["Reset"]}"#,
        "clusters.orders.passive.failures: is not a known field",
    );
    for (on, status) in [
        ("429", 429),
        (r#""GatewayError""#, 503),
        (r#""ServerError""#, 500),
    ] {
        let fields = format!(
            r#""retry":{{"on":[{on}]}},"passive":{{"cooldown":{{"statuses":[{status}]}}}}"#
        );
        let why = format!(
            "clusters.orders.passive.cooldown.statuses: must not have {status} while retry.on \
             retries it: an answer that is retried is not seen yet"
        );
        refused(&fields, &why);
    }
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
fn containers() {
    assert_eq!(parse("").unwrap(), FilterConfig::empty());
    assert!(
        parse("{")
            .expect_err("json")
            .to_string()
            .starts_with("must be JSON: ")
    );
    for bad in [
        "[]",
        "{}",
        r#"{"schema":0}"#,
        r#"{"schema":"1"}"#,
        r#"{"schema":1,"x":1}"#,
        r#"{"schema":1,"clusters":{}}"#,
        r#"{"schema":1,"clusters":5,"clusters":[{"name":"a"}]}"#,
        r#"{"schema":1,"clusters":[{"name":"a"}]} 1"#,
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        parse(r#"{"schema":1,"clusters":[{"backends":[]}]}"#)
            .expect_err("name")
            .to_string(),
        "clusters[0].name: is required"
    );
    let bad_name = parse(r#"{"schema":1,"clusters":[{"name":"a:b"}]}"#);
    assert!(
        bad_name
            .expect_err("name")
            .to_string()
            .starts_with("clusters[0].name: must be 1 to")
    );
}

#[test]
fn a_newer_schema_is_read_leniently_and_its_news_are_counted() {
    let parse = |rest: &str| parse(&format!(r#"{{"schema":{},{rest}}}"#, SCHEMA + 1));
    let read = parse(
        r#""new":1,"clusters":[{"name":"a","newer":{},"backends":[
        {"address":"10.0.0.1:1","newest":true}]}]"#,
    )
    .unwrap();
    assert_eq!(
        (read.ignored_fields, read.clusters[0].backends.len()),
        (3, 1)
    );
    assert!(parse(r#""clusters":[{"name":"a","backends":[{"weight":-1}]}]"#).is_err());
    // All that it retries on is known, and none of it is a timeout.
    let retry = r#""clusters":[{"name":"a","retry":{"perTryTimeout":"1s"}}]"#;
    assert!(parse(retry).is_err());
    // A newer module sees answers that are retried.
    let both = r#""clusters":[{"name":"a","retry":{"on":[429]},"passive":{"cooldown":{}}}]"#;
    let read = parse(both).unwrap();
    assert!(read.clusters[0].passive.cooldown.is_some() && read.ignored_fields == 1);
}

#[test]
fn a_newer_schemas_choices_are_the_default_and_its_entries_absent() {
    let document = |schema: u32| {
        format!(
            r#"{{"schema":{schema},"clusters":[{{"name":"a","whenAllUnhealthy":"Ask",
            "loadBalancing":{{"policy":"Newest","metric":{{"cpu":1}}}},
            "sticky":{{"sameSite":"Never"}},"healthCheck":{{"quic":{{}}}},
            "retry":{{"on":["Newest",503,{{"code":1}}],"perTryTimeout":"1s"}},
            "backends":[{{"address":"10.0.0.1:1","state":"Resting"}}]}}]}}"#
        )
    };
    let read = parse(&document(SCHEMA + 1)).expect("no error");
    let [cluster] = &read.clusters[..] else {
        panic!("{read:?}");
    };
    assert_eq!(cluster.when_all_unhealthy, WhenAllUnhealthy::default());
    assert_eq!(cluster.load_balancing, LoadBalancing::default());
    assert_eq!(
        cluster.sticky.as_ref().map(|it| it.same_site),
        Some(SameSite::Lax)
    );
    assert_eq!(
        (&cluster.health_check, &cluster.retry.on[..]),
        (&None, &[RetryOn::Status(503)][..])
    );
    assert_eq!(cluster.backends[0].state, State::Normal);
    // Seven values, the probe's field and that it has no other.
    assert_eq!(read.ignored_fields, 9);
    let errors = parse(&document(SCHEMA)).expect_err("its own number");
    assert_eq!(
        errors.0.len(),
        10,
        "and the timeout that nothing retries: {errors}"
    );
}

#[test]
fn canonical_form_reads_back_and_names_its_revision() {
    let json = r#"{"schema":1,"clusters":[{"name":"b","sticky":{},"http2":true,"tls":{"sni":"x"},
        "healthCheck":{"http":{"headers":[{"name":"A","value":"b"}],"body":"x"},"port":81},
        "retry":{"attempts":2,"on":["Reset",503]},"backoff":{"base":"500ms"},
        "whenAllUnhealthy":"Refuse","refusal":{"body":"sorry"},"loadBalancing":{"policy":"Random"},
        "backends":[{"address":"10.0.0.1:1","state":"Cordoned","backup":true,"weight":7,
        "stickyId":"s","id":"i"}]},{"name":"a"}]}"#;
    let read = parse(json).unwrap();
    for cluster in &read.clusters {
        assert_eq!(
            ClusterConfig::parse(&cluster.to_value()).as_ref(),
            Ok(cluster)
        );
    }
    let mut sent = FilterConfig::new(read.clusters, None);
    let again = parse(&sent.to_json()).unwrap();
    forget_probes(&mut sent);
    assert_eq!(again, sent);
    assert_eq!(sent.revision.len(), 16);
    let other = FilterConfig::new(vec![], None);
    assert_ne!(other.revision, sent.revision);
}

#[test]
fn a_container_says_the_lowest_schema_that_has_its_fields() {
    for (fields, schema) in [
        (r#""sticky":{}"#, 1),
        (r#""sticky":{"path":"/"}"#, 1),
        (r#""sticky":{"path":"/shop"}"#, 2),
        (r#""timeouts":{}"#, 1),
        (r#""timeouts":{"connect":"1s"}"#, 1),
        (r#""timeouts":{"connect":"250ms"}"#, 2),
        (r#""passive":{}"#, 1),
        (r#""passive":{"cooldown":{}}"#, 3),
        (r#""sticky":{"path":"/shop"},"passive":{"cooldown":{}}"#, 3),
    ] {
        let read = cluster(fields).unwrap();
        let sent = FilterConfig::new(vec![read], None).to_json();
        let written = format!(r#""schema":{schema}}}"#);
        assert!(sent.ends_with(&written), "{sent}");
        let has_news = ["path", "timeouts", "passive"].map(|name| sent.contains(name));
        assert_eq!(has_news.contains(&true), schema > 1, "{sent}");
    }
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
