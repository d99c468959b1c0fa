//! What limits may say.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_rate_has_a_burst_of_two_seconds() {
    let limit = |fields: &str| cluster(fields).unwrap().rate_limit.unwrap();
    for (fields, per_second, burst) in [
        ("{}", 50, 100),
        (r#"{"perSecond":5}"#, 5, 10),
        (r#"{"perSecond":1000000}"#, 1_000_000, 1_000_000),
        (r#"{"perSecond":5,"burst":1}"#, 5, 1),
    ] {
        let limit = limit(&format!(r#""rateLimit":{fields}"#));
        assert_eq!((limit.per_second, limit.burst), (per_second, burst));
    }
}

#[test]
fn limits_are_none_and_read_back() {
    let read = cluster(r#""backends":[{"address":"10.0.0.1:1"}]"#).unwrap();
    assert_eq!((read.limits, read.rate_limit), (Limits::default(), None));
    assert_eq!(read.limits.retry_after, Duration::from_secs(60));
    let backend = &read.backends[0];
    assert_eq!((backend.max_in_flight, backend.rate_limit), (0, None));
    let fields = r#""limits":{"maxRequests":1,"maxPendingRequests":2,"maxConnections":3,
        "maxStreamsPerClient":4,"retryAfter":"0s"},"rateLimit":{"perSecond":5},
        "backends":[{"address":"10.0.0.1:1","maxInFlight":6,"rateLimit":{"burst":7}}]"#;
    let read = cluster(fields).unwrap();
    let limits = read.limits;
    let breakers = [
        limits.max_requests,
        limits.max_pending_requests,
        limits.max_connections,
    ];
    assert_eq!((breakers, limits.max_streams_per_client), ([1, 2, 3], 4));
    let backend = &read.backends[0];
    let own = backend.rate_limit.map(|it| (it.per_second, it.burst));
    assert_eq!((backend.max_in_flight, own), (6, Some((50, 7))));
    assert_eq!(ClusterConfig::parse(&read.to_value()), Ok(read));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let number = "must be a whole number from";
    for (fields, why) in [
        (
            r#""rateLimit":{"perSecond":0}"#,
            format!("rateLimit.perSecond: {number} 1 to 1000000, not 0"),
        ),
        (
            r#""rateLimit":{"burst":0.5}"#,
            format!("rateLimit.burst: {number} 1 to 1000000, not 0.5"),
        ),
        (
            r#""rateLimit":{"scope":"Fleet"}"#,
            "rateLimit.scope: is not a known field".to_owned(),
        ),
        (
            r#""limits":{"maxRequests":-1}"#,
            format!("limits.maxRequests: {number} 0 to 1000000, not -1"),
        ),
        (
            r#""backends":[{"address":"10.0.0.1:1","maxInFlight":1000001}]"#,
            format!("backends[0].maxInFlight: {number} 0 to 1000000, not 1000001"),
        ),
        (
            r#""backends":[{"address":"10.0.0.1:1","rateLimit":{"perSecond":"5"}}]"#,
            format!("backends[0].rateLimit.perSecond: {number} 1 to 1000000, not \"5\""),
        ),
    ] {
        refused(fields, &format!("clusters.orders.{why}"));
    }
    assert!(cluster(r#""limits":{"retryAfter":"25h"}"#).is_err());
}

#[test]
fn so_many_backends_have_a_rate_limit_at_most() {
    let backends = |count: usize, own: &str| {
        let address = |i: usize| format!("10.0.{}.{}:80", i >> 8, i & 255);
        let backends: Vec<String> = (0..count)
            .map(|i| format!(r#"{{"address":"{}"{own}}}"#, address(i)))
            .collect();
        format!(r#""backends":[{}]"#, backends.join(","))
    };
    let why = "clusters.orders.rateLimit: must be on at most 2000 backends, not 2001";
    let own = r#","rateLimit":{}"#;
    for (own, all) in [(own, ""), ("", r#","rateLimit":{}"#)] {
        let fields = |count| format!("{}{all}", backends(count, own));
        assert!(cluster(&fields(RATE_LIMITS_MAX)).is_ok());
        assert_eq!(cluster(&fields(RATE_LIMITS_MAX + 1)), Err(why.to_owned()));
    }
    assert!(cluster(&backends(RATE_LIMITS_MAX + 1, "")).is_ok());
}

#[test]
fn limits_are_of_schema_4() {
    let backend = |field: &str| format!(r#""backends":[{{"address":"10.0.0.1:1"{field}}}]"#);
    for (fields, schema) in [
        (r#""limits":{"maxRequests":0}"#.to_owned(), 1),
        (r#""limits":{"maxRequests":1}"#.to_owned(), 4),
        (r#""rateLimit":{}"#.to_owned(), 4),
        (backend(""), 1),
        (backend(r#","maxInFlight":1"#), 4),
        (backend(r#","rateLimit":{}"#), 4),
    ] {
        let sent = FilterConfig::new(vec![cluster(&fields).unwrap()], None).to_json();
        assert!(sent.ends_with(&format!(r#""schema":{schema}}}"#)), "{sent}");
        assert_eq!(
            sent.contains("imit") || sent.contains("InFlight"),
            schema == 4
        );
    }
}
