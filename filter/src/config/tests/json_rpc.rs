//! How bodies are read.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn bodies_are_not_read_unless_the_document_says_so() {
    assert_eq!(cluster(r#""backends":[]"#).unwrap().json_rpc, None);
    let read = cluster(r#""jsonRpc":{}"#).unwrap().json_rpc.unwrap();
    assert_eq!((read.max_batch, read.max_body_bytes), (100, 262_144));
    assert!(!read.maps_errors && read.methods.is_empty());
    let fields = r#""jsonRpc":{"maxBatch":7,"maxBodyBytes":9,"errors":"Map",
        "methods":["$/b","a_b","A.b-c"]}"#;
    let read = cluster(fields).unwrap();
    let rules = read.json_rpc.as_ref().unwrap();
    assert_eq!((rules.max_batch, rules.max_body_bytes), (7, 9));
    assert!(rules.maps_errors);
    assert_eq!(rules.methods, ["$/b", "A.b-c", "a_b"]);
    assert_eq!(ClusterConfig::parse(&read.to_value()), Ok(read));
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let number = "must be a whole number from 1 to";
    let method =
        "must be 1 to 64 of letters, digits and . _ - / $, and none of other, batch, unknown";
    for (fields, why) in [
        (
            r#"{"maxBatch":0}"#,
            format!("maxBatch: {number} 10000, not 0"),
        ),
        (
            r#"{"maxBodyBytes":16777217}"#,
            format!("maxBodyBytes: {number} 16777216, not 16777217"),
        ),
        (
            r#"{"errors":"Hide"}"#,
            "errors: must be one of Pass, Map, not \"Hide\"".to_owned(),
        ),
        (
            r#"{"methods":["a;b"]}"#,
            format!("methods[0]: {method}, not \"a;b\""),
        ),
        (
            r#"{"methods":["a","batch"]}"#,
            format!("methods[1]: {method}, not \"batch\""),
        ),
        (r#"{"methods":[1]}"#, format!("methods[0]: {method}, not 1")),
        (
            r#"{"methods":["b","a","b"]}"#,
            "methods[2]: must be unique, but it stands above".to_owned(),
        ),
        (
            r#"{"split":true}"#,
            "split: is not a known field".to_owned(),
        ),
    ] {
        refused(
            &format!(r#""jsonRpc":{fields}"#),
            &format!("clusters.orders.jsonRpc.{why}"),
        );
    }
}

#[test]
fn bodies_are_of_schema_5() {
    for (fields, schema) in [(r#""http2":false"#, 1), (r#""jsonRpc":{}"#, 5)] {
        let sent = FilterConfig::new(vec![cluster(fields).unwrap()], None).to_json();
        assert!(sent.ends_with(&format!(r#""schema":{schema}}}"#)), "{sent}");
        assert_eq!(sent.contains("jsonRpc"), schema == 5);
    }
}
