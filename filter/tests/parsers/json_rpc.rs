//! The scanner of JSON-RPC bodies against serde_json: whatever comes in whatever pieces, both take it
//! for the same.

use pointsman_filter::config::JsonRpc;
use pointsman_filter::json_rpc::{Asked, Body, Fault, Scanner};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::json;

type Known = Option<Result<Asked, Fault>>;

/// JSON whose objects have the names that are looked at, and others.
fn any_value() -> impl Strategy<Value = Value> {
    let word = select(vec![
        "method",
        "id",
        "params",
        "",
        "é\"\\\u{0}\u{1f600}",
        "a/b",
        "Method",
    ]);
    json(word)
}

fn scan(pieces: &[&[u8]], wants_id: bool) -> Known {
    let mut scanner = Scanner::new(u32::MAX, wants_id);
    pieces.iter().find_map(|piece| scanner.read(piece))
}

/// What the scanner makes of a text, which is the same however the text is cut.
fn scan_in_all_pieces(text: &[u8], wants_id: bool) -> Result<Known, TestCaseError> {
    let whole = scan(&[text], wants_id);
    for cut in 0..=text.len() {
        let (first, second) = text.split_at(cut);
        prop_assert_eq!(&scan(&[first, second], wants_id), &whole, "cut at {}", cut);
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    prop_assert_eq!(&scan(&bytes, wants_id), &whole, "byte by byte");
    Ok(whole)
}

/// What serde_json makes of a valid text.
fn expected(value: &Value, wants_id: bool) -> Known {
    let is_id = |id: &&Value| id.is_number() || id.is_string() || id.is_null();
    Some(match value {
        Value::Array(items) if items.is_empty() => Err(Fault::EmptyBatch),
        Value::Array(items) => Ok(Asked::Batch(items.len().try_into().unwrap())),
        Value::Object(map) => Ok(Asked::Single {
            method: map.get("method").and_then(Value::as_str).map(str::to_owned),
            id: (map.get("id").filter(is_id).filter(|_| wants_id)).map(Value::to_string),
        }),
        _ => Err(Fault::NoRequest),
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rl_5_a_body_is_what_serde_json_takes_it_for(value in any_value(), pretty: bool) {
        let text = match pretty {
            true => serde_json::to_string_pretty(&value).unwrap(),
            false => value.to_string(),
        };
        for wants_id in [false, true] {
            let known = scan_in_all_pieces(text.as_bytes(), wants_id)?;
            prop_assert_eq!(known, expected(&value, wants_id), "{}", text);
        }
    }

    /// Within a list every byte up to its end is read.
    #[test]
    fn rl_5_a_mutated_body_is_taken_or_refused_as_serde_json_does(
        value in any_value(),
        changes in vec((any::<Index>(), 0..3, select(b"{}[]\",:\\u0019-+.eEtfn \n\x01\xff".to_vec())), 1..4),
    ) {
        let mut text = value.to_string().into_bytes();
        for (place, what, byte) in changes {
            let place = place.index(text.len().saturating_add(1));
            match what {
                0 => text.insert(place, byte),
                1 if place < text.len() => text[place] = byte,
                _ if place < text.len() => drop(text.remove(place)),
                _ => {}
            }
        }
        let text = [b"[", &text[..], b"]"].concat();
        let known = scan_in_all_pieces(&text, false)?;
        let mut first = serde_json::Deserializer::from_slice(&text).into_iter::<Vec<IgnoredAny>>();
        match first.next() {
            Some(Ok(items)) if items.is_empty() => {
                prop_assert_eq!(known, Some(Err(Fault::EmptyBatch)));
            }
            Some(Ok(items)) => {
                let length = items.len().try_into().unwrap();
                prop_assert_eq!(known, Some(Ok(Asked::Batch(length))));
            }
            _ => prop_assert!(matches!(known, None | Some(Err(Fault::NotJson))), "{:?}", known),
        }
    }

    #[test]
    fn rl_5_any_bytes_are_a_body_or_refused(
        noise in vec(any::<u8>(), 0..200),
        start in select(vec!["", "{", "[", "{\"method\":", "[{\"id\":\"\\u"]),
        max_body_bytes in 1u32..200,
        maps_errors: bool,
        burst in prop::option::of(1u32..9),
    ) {
        let text = [start.as_bytes(), &noise].concat();
        scan_in_all_pieces(&text, maps_errors)?;
        let rules = JsonRpc { max_batch: 5, max_body_bytes, maps_errors, methods: Vec::new() };
        let known = Body::new(&rules, burst).read(&text);
        let is_over = text.len() > max_body_bytes as usize;
        prop_assert!(known.is_some() || !is_over, "nothing is held beyond the limit");
    }
}
