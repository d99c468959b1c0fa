//! What a revision depends on, and what not.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn sidecars_with_other_tokens_and_ttls_agree_on_a_revision() {
    let revision = |token: &str, ttl: u64| {
        let exchange = ExchangeConfig {
            cluster: "pointsman_sidecar".to_owned(),
            token: token.to_owned(),
            verdict_ttl: Duration::from_secs(ttl),
        };
        FilterConfig::new(vec![], Some(exchange)).revision
    };
    assert_eq!(revision("a", 30), revision("b", 10));
    assert_eq!(revision("a", 30), FilterConfig::new(vec![], None).revision);
}

#[test]
fn filters_are_not_sent_the_probes_and_a_revision_does_not_depend_on_them() {
    let json = r#"{"schema":1,"clusters":[{"name":"a","backends":[{"address":"10.0.0.1:1"}],
        "healthCheck":{"http":{"headers":[{"name":"x-key","value":"geheim"}]}}}]}"#;
    let read = parse(json).unwrap();
    assert!(read.clusters[0].health_check.is_some());
    let mut sent = FilterConfig::new(read.clusters, None);
    let bytes = sent.to_json();
    assert!(!bytes.contains("healthCheck"), "{bytes}");
    forget_probes(&mut sent);
    assert_eq!(FilterConfig::new(sent.clusters, None).to_json(), bytes);
}
