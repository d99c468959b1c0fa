use serde_json::Value;

use super::*;
use crate::config::JsonRpc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn rules() -> JsonRpc {
    JsonRpc {
        max_batch: 100,
        max_body_bytes: 1000,
        maps_errors: false,
        methods: vec!["a".to_owned(), "eth_call".to_owned()],
    }
}

/// What becomes of a whole body, in words, and after how many bytes that is known.
fn read(text: &str, wants_id: bool) -> (String, usize) {
    let mut scanner = Scanner::new(3, wants_id);
    for (place, byte) in text.bytes().enumerate() {
        if let Some(known) = scanner.read(&[byte]) {
            let words = match known {
                Ok(Asked::Batch(length)) => format!("batch of {length}"),
                Ok(Asked::Single { method, id }) => {
                    let or_none = |it: Option<String>| it.unwrap_or_else(|| "-".to_owned());
                    format!("{} {}", or_none(method), or_none(id))
                }
                Err(fault) => fault.name().to_owned(),
            };
            return (words, place + 1);
        }
    }
    ("undecided".to_owned(), text.len())
}

#[test]
fn rl_13_a_single_request_is_known_at_its_method() {
    for (text, words) in [
        (r#"{"method":"eth_call"|,"params":[1]}"#, "eth_call -"),
        (r#" { "jsonrpc" : "2.0", "id":1, "method" :"a"| }"#, "a -"),
        (r#"{"params":{"method":"no"},"method":"a"|}"#, "a -"),
        (r#"{"params":["}",{"a":"\"]"}],"method":"a"|}"#, "a -"),
        (r#"{"m\u0065thod":"\u0061"|}"#, "a -"),
        (r#"{"method":"a"|,"method":"b"}"#, "a -"),
        (r#"{"method":1,|"id":1}"#, "- -"),
        (r#"{"method":{|}}"#, "- -"),
        (r#"{"method":[|]}"#, "- -"),
        (r#"{"method":null|}"#, "- -"),
        (r#"{"id":1}|"#, "- -"),
        (r#"{}|"#, "- -"),
        ("{\"method\":\"\u{e9}\"|}", "\u{e9} -"),
        ("{\"method\":\"\\ud800\"|}", "- -"),
    ] {
        let known = text.find('|').unwrap();
        assert_eq!(
            read(&text.replacen('|', "", 1), false),
            (words.to_owned(), known.max(1)),
            "{text}"
        );
    }
}

#[test]
fn rl_11_its_id_is_kept_as_it_stands_there() {
    for (text, words) in [
        (r#"{"id":1,"method":"a"|}"#, "a 1"),
        (r#"{"method":"a","id":"x\"y"|}"#, r#"a "x\"y""#),
        (r#"{"method":"a","id":-1.50e+3}|"#, "a -1.50e+3"),
        (
            r#"{"method":"a","id":123456789012345678901,|"x":1}"#,
            "a 123456789012345678901",
        ),
        (r#"{"method":"a","id":null|}"#, "a null"),
        (r#"{"method":"a","id":true|}"#, "a -"),
        (r#"{"method":"a","id":{|}}"#, "a -"),
        (r#"{"method":"a","params":{"id":1}}|"#, "a -"),
        (r#"{"id":1,"id":2,"method":"a"|}"#, "a 1"),
        (r#"{"method":"a","method":"b","id":"1"|}"#, r#"a "1""#),
        (r#"{"id":7}|"#, "- 7"),
        (r#"{"\u0069d":3,"method":"a"|}"#, "a 3"),
    ] {
        let known = text.find('|').unwrap();
        let text = text.replacen('|', "", 1);
        // A number ends with what stands behind it.
        assert_eq!(read(&text, true), (words.to_owned(), known), "{text}");
    }
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    for id in [text, |length| "1".repeat(length)] {
        let read = |id: &str| read(&format!(r#"{{"id":{id},"method":"a"}}"#), true).0;
        let longest = id(TEXT_MAX);
        assert_eq!(read(&longest), format!("a {longest}"));
        assert_eq!(read(&id(TEXT_MAX + 1)), "a -", "too long");
    }
}

#[test]
fn rl_5_batches_are_counted_and_faults_are_named() {
    for (text, words) in [
        ("[1]|", "batch of 1"),
        (r#"[{"method":"a","id":[1,2]},{"x":{}}]|"#, "batch of 2"),
        ("[ {} , [] , \"],[\" ]|", "batch of 3"),
        ("[1,2,3,4|]", "batch_too_long"),
        ("[[1,2,3,4,5]]|", "batch of 1"),
        (r#"["\"\\\/\b\f\n\r\t\u09af\uAF9C"]|"#, "batch of 1"),
        ("[]|", "empty_batch"),
        (" [ \n ]|", "empty_batch"),
        ("[1]|]", "batch of 1"),
        ("h|ello", "not_json"),
        ("]|", "not_json"),
        ("}|", "not_json"),
        (",|", "not_json"),
        ("4|2", "no_request"),
        ("\"|a\"", "no_request"),
        ("n|ull", "no_request"),
        ("{1|:2}", "not_json"),
        ("{\"a\"}|", "not_json"),
        ("{\"a\":1,}|", "not_json"),
        ("[1,]|", "not_json"),
        ("[1 2|]", "not_json"),
        ("[01|]", "not_json"),
        ("[1.]|", "not_json"),
        ("[-]|", "not_json"),
        ("[1e]|", "not_json"),
        ("[.|5]", "not_json"),
        ("[tru}|", "not_json"),
        ("[\"\\x|\"]", "not_json"),
        ("[\"\\u12g|\"]", "not_json"),
        ("[\"\n|\"]", "not_json"),
        ("{]|", "not_json"),
        ("[}|", "not_json"),
        ("[{\"a\":1]|", "not_json"),
        ("", "undecided"),
        (" ", "undecided"),
        ("[1", "undecided"),
        ("{\"method", "undecided"),
    ] {
        let known = text.find('|').unwrap_or(text.len());
        let text = text.replacen('|', "", 1);
        assert_eq!(read(&text, true), (words.to_owned(), known), "{text}");
    }
}

#[test]
fn rl_5_containers_stand_so_deep_in_each_other_and_no_deeper() {
    let deepest = usize::try_from(DEPTH_MAX).unwrap();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| {
            let inner = if open == "[" { "" } else { "1" };
            format!(
                "[{}{inner}{}]",
                open.repeat(depth - 1),
                close.repeat(depth - 1)
            )
        };
        for (depth, words) in [(deepest, "batch of 1"), (deepest + 1, "too_deep")] {
            let text = nested(depth);
            assert_eq!(read(&text, false).0, words);
            let is_read = serde_json::from_str::<Value>(&text).is_ok();
            assert_eq!(is_read, words != "too_deep", "as serde_json has it");
        }
        assert_eq!(read(&nested(100_000), false).0, "too_deep");
    }
}

/// A text's bytes are looked at in eights where there are as many.
#[test]
fn each_byte_of_a_text_means_the_same_wherever_it_stands() {
    for byte in 0..=u8::MAX {
        for place in 0..81 {
            let mut text = format!("[\"{}\"]", "x".repeat(81)).into_bytes();
            text[place + 2] = byte;
            let whole = Scanner::new(3, false).read(&text);
            let mut scanner = Scanner::new(3, false);
            let known = text.iter().find_map(|byte| scanner.read(&[*byte]));
            assert_eq!(whole, known, "{byte} at {place}");
            // The last backslash hides the quote.
            let is_text = byte >= b' ' && byte != b'"' && byte != b'\\';
            assert_eq!(matches!(known, Some(Ok(_))), is_text, "{byte} at {place}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_json() {
    let known = Scanner::new(3, false).read("\u{feff}{}".as_bytes());
    assert_eq!(known, Some(Err(Fault::NotJson)));
}

/// A body of so many bytes that says nothing before its last one.
fn body_of(length: usize) -> String {
    let text = format!("[{}1]", " ".repeat(length - 3));
    assert_eq!(text.len(), length);
    text
}

#[test]
fn rl_5_a_body_is_read_up_to_its_limit_in_whatever_pieces() {
    let single = |length: usize| format!(r#"{{{}"method":"a"}}"#, " ".repeat(length - 14));
    for text in [body_of(1000), single(1000)] {
        for piece in [1, 7, 999, 1000] {
            let mut body = Body::new(&rules(), None);
            let known = text.as_bytes().chunks(piece).find_map(|it| body.read(it));
            assert!(matches!(known, Some(Ok(_))), "{known:?}");
            let mut body = Body::new(&rules(), None);
            let above = format!(" {text}");
            let known = above.as_bytes().chunks(piece).find_map(|it| body.read(it));
            // The single one's method ends a byte before it does.
            let fits = text.starts_with('{');
            assert_eq!(known == Some(Err(Fault::TooLarge)), !fits, "{known:?}");
        }
    }
    let mut body = Body::new(&rules(), None);
    assert_eq!(body.read(&[b' '; 1000]), None);
    assert_eq!(body.read(&[]), None);
    assert_eq!(body.read(b"{"), Some(Err(Fault::TooLarge)));
}

#[test]
fn rl_4_a_batch_above_every_burst_is_named() {
    let batch = |length: usize| format!("[{}1]", "1,".repeat(length - 1));
    let read = |length, burst| Body::new(&rules(), burst).read(batch(length).as_bytes());
    assert_eq!(read(10, Some(10)), Some(Ok(Asked::Batch(10))));
    assert_eq!(read(11, Some(10)), Some(Err(Fault::OverBurst)));
    assert_eq!(read(11, None), Some(Ok(Asked::Batch(11))));
    assert_eq!(read(100, Some(100)), Some(Ok(Asked::Batch(100))));
    assert_eq!(read(101, Some(100)), Some(Err(Fault::BatchTooLong)));
    assert_eq!(read(101, None), Some(Err(Fault::BatchTooLong)));
}

/// What is announced by a request with these headers besides those that all have.
fn announced(headers: &[(&str, &str)]) -> Option<Result<(), Fault>> {
    let common = [(":path", "/"), ("x-content-type", "text/plain")];
    let all = || common.iter().chain(headers);
    let mut map = u32::try_from(all().count()).unwrap().to_le_bytes().to_vec();
    for text in all().flat_map(|(name, value)| [name, value]) {
        map.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    }
    for text in all().flat_map(|(name, value)| [name, value]) {
        map.extend(text.bytes().chain([0]));
    }
    assert_eq!(
        super::announced(&rules(), &map[..map.len() - 1]),
        None,
        "cut off"
    );
    super::announced(&rules(), &map)
}

#[test]
fn rl_5_a_length_that_is_told_is_checked() {
    let json = [(":method", "POST"), ("content-type", "application/json")];
    let check = |length: &str| announced(&[&json[..], &[("content-length", length)]].concat());
    let (taken, refused) = (Some(Ok(())), Some(Err(Fault::TooLarge)));
    assert_eq!((check("1000"), check("1001")), (taken, refused));
    assert_eq!(check("99999999999"), refused);
    for untold in ["", "x", "-1"] {
        assert_eq!(check(untold), taken);
    }
    assert_eq!(announced(&json), taken);
}

#[test]
fn a_post_of_json_is_read_and_nothing_else() {
    const TYPE: &str = "content-type";
    let post = |headers: &[(&str, &str)]| announced(&[&[(":method", "POST")], headers].concat());
    for yes in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json-rpc",
        "application/jsonrequest",
        "application/vnd.api+json",
    ] {
        assert_eq!(post(&[(TYPE, yes)]), Some(Ok(())), "{yes}");
    }
    // Those of gRPC and Connect are JSON in frames of their own.
    for no in [
        "",
        "text/json",
        "application/jsonx",
        "application/grpc",
        "application/grpc+json",
        "application/grpc-web+json",
        "application/connect+json",
        "json",
        "application/",
    ] {
        assert_eq!(post(&[(TYPE, no)]), None, "{no}");
    }
    let json = (TYPE, "application/json");
    assert_eq!(post(&[]), None);
    for method in ["GET", "PUT", "post"] {
        assert_eq!(announced(&[(":method", method), json]), None, "{method}");
    }
    for (other, is_read) in [
        (("upgrade", "websocket"), false),
        (("content-encoding", "gzip"), false),
        (("content-encoding", "Identity"), true),
    ] {
        assert_eq!(post(&[json, other]).is_some(), is_read, "{other:?}");
        assert_eq!(post(&[other, json]).is_some(), is_read, "{other:?}");
    }
    let twice = [
        json,
        ("content-encoding", "gzip"),
        ("content-encoding", "identity"),
    ];
    assert_eq!(post(&twice), None);
}

#[test]
fn rl_13_methods_are_counted_by_the_names_that_the_document_lists() {
    let rules = rules();
    let single = |method: &str| Asked::Single {
        method: Some(method.to_owned()),
        id: None,
    };
    for (asked, label) in [
        (single("eth_call"), "eth_call"),
        (single("eth_send"), "other"),
        (single("unknown"), "other"),
        (
            Asked::Single {
                method: None,
                id: None,
            },
            "unknown",
        ),
        (Asked::Batch(7), "batch"),
    ] {
        assert_eq!(asked.label(&rules), label);
        assert_eq!(asked.cost(), if label == "batch" { 7 } else { 1 });
        assert_eq!(asked.into_id(), NO_ID);
    }
}

#[test]
fn rl_11_errors_are_json_rpcs() {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (status, error, code) in [
        ("200", None, 0),
        ("404", None, 0),
        ("600", None, 0),
        ("x", None, 0),
        ("429", Some(RpcError::Limited), -32000),
        ("500", Some(RpcError::Failed(500)), -32603),
        ("503", Some(RpcError::Failed(503)), -32603),
        ("599", Some(RpcError::Failed(599)), -32603),
    ] {
        assert_eq!(error_of(status.as_bytes()), error, "{status}");
        for id in ["1", "\"x\\\"y\"", "null", "123456789012345678901234567890"] {
            let Some(error) = error else { continue };
            let text = error_body(error, id);
            assert!(text.ends_with(&format!(r#","id":{id}}}"#)), "{text}");
            let value = parsed(&text);
            assert_eq!(
                (&value["jsonrpc"], &value["error"]["code"]),
                (&"2.0".into(), &code.into())
            );
            assert!(value["error"]["message"].is_string());
        }
    }
    let code = |error| parsed(&error_body(error, NO_ID))["error"]["code"].clone();
    assert_eq!(code(RpcError::NoBackend), -32603);
    for (fault, status, code) in [
        (Fault::NotJson, 400, -32700),
        (Fault::TooDeep, 400, -32700),
        (Fault::NoRequest, 400, -32600),
        (Fault::EmptyBatch, 400, -32600),
        (Fault::BatchTooLong, 413, -32600),
        (Fault::OverBurst, 413, -32600),
        (Fault::TooLarge, 413, -32600),
    ] {
        let value = parsed(&fault.body());
        assert_eq!(
            (fault.status(), &value["error"]["code"]),
            (status, &code.into())
        );
        assert_eq!(value["id"], Value::Null);
    }
}
