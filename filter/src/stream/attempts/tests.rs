//! Rules of the list's arithmetic.

use super::*;
use crate::testing::drawing::Drawing;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Judges what Envoy said of the list `a b c` of the cluster `a b c d`: "b 2 answered" is the
/// address of b, two attempts, an answer.
fn judged(said: &str, transport_only: bool) -> String {
    let drawing = Drawing::new("a b c d");
    let mut list = List::default();
    ["a", "b", "c"]
        .iter()
        .for_each(|id| list.push(drawing.endpoint(id)));
    judged_in(&drawing, &list, said, transport_only)
}

fn judged_in(drawing: &Drawing, list: &List, said: &str, transport_only: bool) -> String {
    let words: Vec<&str> = said.split(' ').collect();
    let address = match words[0] {
        "-" => None,
        "stranger" => Some("192.0.2.1:1".to_owned()),
        id => Some(
            drawing
                .cluster
                .endpoint(drawing.endpoint(id))
                .unwrap()
                .address
                .to_string(),
        ),
    };
    let ending = match words[2] {
        "answered" => Ending::Answered,
        "refused" => Ending::ConnectFailed,
        "abandoned" => Ending::Abandoned,
        _ => Ending::Unanswered,
    };
    let answer = Answer {
        address: address.map(String::into_bytes),
        attempts: words[1].parse().unwrap(),
        ending,
        connection_time_ns: None,
        status: None,
    };
    let outcome = judge(&drawing.cluster, list, transport_only, &answer);
    let evidence = outcome.evidence();
    let failed: Vec<String> = evidence
        .filter(|met| met.what != Met::Served)
        .map(|met| drawing.id(met.endpoint))
        .collect();
    let server = match (outcome.served(), outcome.spilled) {
        (Some(endpoint), _) => drawing.id(endpoint),
        (None, true) => "Spill".to_owned(),
        (None, false) => "Nobody".to_owned(),
    };
    let exhausted = if outcome.exhausted { " exhausted" } else { "" };
    format!("{server} failed [{}]{exhausted}", failed.join(" "))
}

#[track_caller]
fn check(said: &str, outcome: &str) {
    assert_eq!(judged(said, true), outcome, "{said}");
}

#[test]
fn those_passed_over_before_the_server_failed() {
    check("a 1 answered", "a failed []");
    check("b 2 answered", "b failed [a]");
    check("c 3 answered", "c failed [a b]");
}

#[test]
fn entries_unknown_to_envoy_prove_nothing() {
    // Fewer attempts than places: somebody was skipped, nobody knows who.
    check("b 1 answered", "b failed []");
    check("c 2 answered", "c failed []");
    check("c 2 refused", "Nobody failed [c]");
    check("c 0 answered", "c failed []");
}

#[test]
fn more_attempts_than_places_are_hedging_and_prove_only_the_server() {
    check("a 2 answered", "a failed []");
    check("b 3 answered", "b failed []");
    check("a 3 refused", "Nobody failed [a] exhausted");
    check("a 4 answered", "a failed []");
}

#[test]
fn a_server_from_outside_the_list_is_a_spill() {
    check("d 1 answered", "Spill failed []");
    check("stranger 3 answered", "Spill failed []");
    check("d 4 refused", "Nobody failed []");
    check("- 0 unanswered", "Nobody failed []");
    check("- 3 answered", "Nobody failed []");
}

#[test]
fn the_last_one_fails_only_by_a_refused_connection() {
    check("a 1 refused", "Nobody failed [a]");
    check("b 2 refused", "Nobody failed [a b]");
    check("a 1 unanswered", "Nobody failed []");
    check("b 2 unanswered", "Nobody failed [a]");
}

#[test]
fn rt_6_all_attempts_in_vain_exhaust_a_request() {
    check("c 3 refused", "Nobody failed [a b c] exhausted");
    check("c 3 unanswered", "Nobody failed [a b] exhausted");
    check("c 3 abandoned", "Nobody failed [a b]");
}

#[test]
fn where_answers_are_retried_only_refused_connections_prove_a_failure() {
    for (said, outcome) in [
        ("b 2 answered", "b failed []"),
        ("c 3 answered", "c failed []"),
        ("c 3 refused", "Nobody failed [c] exhausted"),
        ("b 2 unanswered", "Nobody failed []"),
    ] {
        assert_eq!(judged(said, false), outcome, "{said}");
    }
}

#[test]
fn the_only_eligible_one_was_tried_twice() {
    let drawing = Drawing::new("a");
    let mut list = List::default();
    list.push(drawing.endpoint("a"));
    let outcome = |said: &str| judged_in(&drawing, &list, said, true);
    // The first attempt was reset and the second answered: the reset was of a stale connection.
    assert_eq!(outcome("a 2 answered"), "a failed []");
    assert_eq!(outcome("a 2 refused"), "Nobody failed [a] exhausted");
    assert_eq!(outcome("a 1 refused"), "Nobody failed [a] exhausted");
}

/// RT-9: a list of two for three attempts.
#[test]
fn the_first_of_a_short_list_was_tried_once_more_and_counts_once() {
    let drawing = Drawing::new("a b c d");
    let mut list = List::default();
    ["a", "b"]
        .iter()
        .for_each(|id| list.push(drawing.endpoint(id)));
    let outcome = |said: &str| judged_in(&drawing, &list, said, true);
    assert_eq!(outcome("a 3 answered"), "a failed [b]");
    assert_eq!(outcome("a 3 refused"), "Nobody failed [b a] exhausted");
    assert_eq!(outcome("b 2 answered"), "b failed [a]");
    assert_eq!(outcome("b 3 answered"), "b failed []", "hedged");
    assert_eq!(outcome("a 4 answered"), "a failed []", "hedged");
}
