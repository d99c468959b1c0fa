//! The container: older and newer schemas, the canonical form.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
        r#"{"schema":1,"clusters":[{"name":"a"}],"clusters":[{"name":"a"}]}"#,
        r#"{"clusters":[{"name":"a"}],"clusters":[{"name":"a"}],"schema":1}"#,
        r#"{"schema":1,"clusters":[{"name":"a"}]} 1"#,
        r#"{"clusters":[{"name":"a"}],"schema":1} 1"#,
        r#"{"clusters":[{"name":"a"} {"name":"b"}],"schema":1}"#,
        r#"{"clusters":[{"name":"a"},],"schema":1}"#,
        r#"{"clusters":[{"name":"a"}"schema":1}"#,
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
        (&None, &[Failure::Code(Code::http(503))][..])
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
        "whenAllUnhealthy":"Refuse","refusal":{"body":"sorry"},"loadBalancing":{"policy":"Maglev",
        "maglevTableSize":251,"affinity":{"cookie":"c"},"shuffleShard":{"percent":50}},
        "backends":[{"address":"10.0.0.1:1","state":"Cordoned","backup":true,"weight":7,
        "stickyId":"s","id":"i"}]},{"name":"a","loadBalancing":{"policy":"Tiered",
        "smoothing":0.333,"initialLatency":"1500ms"}}]}"#;
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
        (r#""retry":{"on":[429]},"passive":{"cooldown":{}}"#, 4),
        (
            r#""passive":{"failures":["ConnectFailure"],"consecutive":1}"#,
            1,
        ),
        (r#""passive":{"failures":[]}"#, 4),
        (r#""passive":{"consecutive":2}"#, 4),
        (r#""passive":{"maxEjectedPercent":49,"cooldown":{}}"#, 4),
        (r#""passive":{"cooldown":{"statuses":["grpc:8"]}}"#, 4),
        (r#""retry":{"on":["grpc:14"]}"#, 4),
        (
            r#""retry":{"on":["Reset",503]},"passive":{"cooldown":{}}"#,
            3,
        ),
        (
            r#""retry":{"on":["GatewayError"]},"passive":{"cooldown":{"statuses":[503]}}"#,
            4,
        ),
        (
            r#""retry":{"on":["ServerError"]},"passive":{"cooldown":{"statuses":[500]}}"#,
            4,
        ),
        (r#""loadBalancing":{"maglevTableSize":65537}"#, 1),
        (r#""loadBalancing":{"maglevTableSize":251}"#, 4),
        (r#""loadBalancing":{"policy":"Maglev"}"#, 4),
        (
            r#""loadBalancing":{"policy":"Rendezvous"},"timeouts":{"connect":"250ms"}"#,
            4,
        ),
        (
            r#""loadBalancing":{"shuffleShard":{}},"passive":{"cooldown":{}}"#,
            4,
        ),
        (r#""loadBalancing":{"slowStart":{}}"#, 6),
        (r#""loadBalancing":{"policy":"Tiered"}"#, 7),
        (r#""loadBalancing":{"policy":"Tiered","smoothing":0.1}"#, 7),
        (r#""backoff":{"halfOpen":true}"#, 1),
        (r#""backoff":{"halfOpen":false}"#, 6),
    ] {
        let read = cluster(fields).unwrap();
        let sent = FilterConfig::new(vec![read], None).to_json();
        let written = format!(r#""schema":{schema}}}"#);
        assert!(sent.ends_with(&written), "{sent}");
        let news = [
            "path",
            "timeouts",
            "passive",
            "grpc",
            "loadBalancing",
            "backoff",
        ];
        let has_news = news.map(|name| sent.contains(name));
        assert_eq!(has_news.contains(&true), schema > 1, "{sent}");
    }
}
