//! What is promised, case by case.

use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::*;
use crate::model::event::{Event, override_events};

fn entry(state: State, expires_at: Option<u64>) -> Override {
    Override {
        state,
        reason: String::new(),
        actor: String::new(),
        starts_at: None,
        expires_at,
    }
}

fn cluster(name: &str) -> ClusterConfig {
    let backends = json!([{"id": "a", "address": "10.0.0.1:80"},
        {"id": "b", "address": "10.0.0.2:80", "state": "Draining"}]);
    ClusterConfig::parse(&json!({"name": name, "backends": backends})).unwrap()
}

fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::name).collect()
}

#[test]
fn a_word_is_a_state_or_json() {
    let short = Override::parse("o", b" Cordoned\n").unwrap();
    assert_eq!(short, entry(State::Cordoned, None));
    let text = br#"{"state":"Draining","reason":"r","actor":"me","expiresAt":1700000000005}"#;
    let long = Override::parse("o", text).unwrap();
    assert_eq!(
        (long.state, long.expires_at),
        (State::Draining, Some(1_700_000_000_005))
    );
    assert_eq!((long.reason.as_str(), long.actor.as_str()), ("r", "me"));
    assert_eq!(Override::read("o", &long.to_value()).unwrap(), long);
    let lengthy = format!(r#"{{"state":"Cordoned","reason":"{}"}}"#, "x".repeat(257));
    for (text, expected) in [
        ("Normal", "o.state: must be Cordoned or Draining"),
        ("", "o.state: must be Cordoned or Draining"),
        ("{}", "o.state: must be Cordoned or Draining"),
        (
            r#"{"state":"Cordoned","til":1}"#,
            "o.til: is not a known field",
        ),
        (
            r#"{"state":"Cordoned","actor":1}"#,
            "o.actor: must be a text of at most 256 bytes",
        ),
        (&lengthy, "o.reason: must be a text of at most 256 bytes"),
        (
            r#"{"state":"Cordoned","expiresAt":"x"}"#,
            "o.expiresAt: must be a time in ms since 1970",
        ),
        (
            r#"{"state":"Cordoned","startsAt":-1}"#,
            "o.startsAt: must be a time in ms since 1970",
        ),
    ] {
        let error = Override::parse("o", text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
    assert!(Override::parse("o", b"{").is_err() && Override::parse("o", b"\xff").is_err());
    let twice = br#"{"state":"Cordoned","state":"Draining"}"#;
    assert!(Override::parse("o", twice).is_err());
}

proptest! {
    /// Whatever stands in a store is an override, or an error that says something.
    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..200)) {
        if let Err(errors) = Override::parse("o", &bytes) {
            assert!(errors.0.iter().all(|error| !error.why.is_empty()), "{errors}");
        }
    }
}

#[test]
fn each_word_is_read_for_itself() {
    let value = json!({"a": {"state": "Cordoned", "reason": "disk"}, "b": 3, "c": "Draining"});
    let read = read_each("orders", value.as_object().unwrap());
    assert_eq!(read["a"].as_ref().unwrap().to_value(), value["a"]);
    assert_eq!(read["c"], Ok(entry(State::Draining, None)));
    assert_eq!(
        read["b"].as_ref().unwrap_err().to_string(),
        "overrides.orders[b].state: must be Cordoned or Draining"
    );
}

#[test]
fn a_word_beats_the_document_until_it_ends() {
    let mut overrides = Overrides::default();
    overrides.put("one", "a", entry(State::Cordoned, Some(10)));
    overrides.put("one", "b", entry(State::Cordoned, None));
    overrides.put("one", "nobody", entry(State::Draining, Some(20)));
    let states = |overrides: &Overrides| {
        let mut clusters = [cluster("one"), cluster("two")];
        overrides.obey(&mut clusters);
        clusters.map(|it| it.backends.iter().map(|it| it.state).collect::<Vec<_>>())
    };
    let untouched = vec![State::Normal, State::Draining];
    assert_eq!(overrides.settle(9), Some(10));
    let cordoned = vec![State::Cordoned, State::Cordoned];
    assert_eq!(states(&overrides), [cordoned, untouched.clone()]);
    assert_eq!(overrides.settle(10), Some(20));
    let one = vec![State::Normal, State::Cordoned];
    assert_eq!(states(&overrides), [one, untouched]);
    assert_eq!(overrides.settle(20), None);
    assert_eq!(overrides.fields().count(), 1, "what ended is forgotten");
}

#[test]
fn what_happened_is_told_once() {
    let mut before = Overrides::default();
    before.put("c", "ends", entry(State::Cordoned, Some(10)));
    before.put("c", "taken back", entry(State::Cordoned, Some(11)));
    before.put("c", "stays", entry(State::Cordoned, None));
    before.put("c", "changes", entry(State::Cordoned, None));
    assert!(override_events(&before, &before.clone(), 9).is_empty());
    let mut later = Overrides::default();
    later.put("c", "stays", entry(State::Cordoned, None));
    later.put("c", "changes", entry(State::Draining, None));
    later.put("d", "new", entry(State::Draining, None));
    assert_eq!(
        names(&override_events(&before, &later, 10)),
        [
            "override_set",
            "override_set",
            "override_expired",
            "override_cleared"
        ]
    );
}

#[test]
fn what_is_planned_is_obeyed_from_its_time_on_and_told_then() {
    let mut before = Overrides::default();
    before.put("one", "a", entry(State::Cordoned, None));
    let planned = Override {
        starts_at: Some(10),
        ..entry(State::Draining, Some(20))
    };
    before.put("one", &format!("a{NEXT}"), planned.clone());
    assert_eq!(before.next("one", "a"), Some(&planned));
    let state = |overrides: &Overrides| {
        let mut clusters = [cluster("one")];
        overrides.obey(&mut clusters);
        clusters[0].backends[0].state
    };
    assert_eq!(
        (before.settle(9), state(&before)),
        (Some(10), State::Cordoned)
    );
    assert!(override_events(&Overrides::default(), &before, 9).len() == 1);
    let mut later = before.clone();
    assert_eq!(
        (later.settle(10), state(&later)),
        (Some(20), State::Draining)
    );
    assert_eq!(
        names(&override_events(&before, &later, 10)),
        ["override_set"]
    );
    assert_eq!(later.planned().count(), 0);
    let ended = later.clone();
    assert_eq!((later.settle(20), state(&later)), (None, State::Normal));
    assert_eq!(
        names(&override_events(&ended, &later, 20)),
        ["override_expired"]
    );
}
