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

/// What the sidecar sent at commit d22d5b7, before the schema had `passive` and all that came after it.
const SCHEMA_2: &str = include_str!("schema_2.json");

/// A filter that knows no more than these fields reads them as before, and strictly.
#[test]
fn a_container_without_newer_fields_is_written_as_it_was_before_there_were_any() {
    let without_revision = |text: &str, config: &FilterConfig| {
        let revision = format!(r#""revision":"{}","#, config.revision);
        assert!(text.contains(&revision), "{text}");
        text.replace(&revision, "")
    };
    let read = parse(SCHEMA_2).unwrap();
    let before = without_revision(SCHEMA_2.trim_end(), &read);
    let sent = FilterConfig::new(read.clusters, read.exchange);
    assert_eq!(without_revision(&sent.to_json(), &sent), before);
}
