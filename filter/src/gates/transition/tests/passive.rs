//! Failures that are told by more than a connection that was not made (RT-11).

use super::*;
use crate::config::{Code, Failure};
use crate::gates::standing::Standing;
use crate::testing::drawing::NOW;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FAILED: Met = Met::Status(Status {
    code: Code::http(500),
    asked_ns: None,
});

fn drawing(text: &str, failures: &[Failure]) -> Drawing {
    Drawing::new(text).edit(|config| config.passive.failures = failures.to_vec())
}

fn stands(drawing: &Drawing, id: &str) -> Standing {
    drawing.view().standing(drawing.endpoint(id), drawing.now)
}

/// How many of these ids are held back after all of them met that.
fn held(mut drawing: Drawing, ids: &str, what: Met) -> usize {
    let ids: Vec<&str> = ids.split(' ').collect();
    for id in &ids {
        drawing.meet(id, what, NOW);
    }
    let held = |id: &&&str| stands(&drawing, id) == Standing::BackingOff;
    ids.iter().filter(held).count()
}

#[test]
fn rt_11_only_what_the_document_lists_counts() {
    let code = |code| {
        Met::Status(Status {
            code,
            asked_ns: None,
        })
    };
    let (http, grpc) = (Code::http, Code::grpc);
    for (what, failures, counts) in [
        (Met::Connect, vec![Failure::ConnectFailure], true),
        (Met::Connect, vec![Failure::ServerError], false),
        (Met::Unknown, vec![Failure::ConnectFailure], true),
        (Met::Unknown, vec![Failure::Reset], false),
        (Met::Reset, vec![Failure::Reset], true),
        (
            Met::Reset,
            vec![Failure::ConnectFailure, Failure::Timeout],
            false,
        ),
        (Met::Timeout, vec![Failure::Timeout], true),
        (Met::Timeout, vec![Failure::Reset], false),
        (code(http(500)), vec![Failure::ServerError], true),
        (code(http(500)), vec![Failure::GatewayError], false),
        (code(http(503)), vec![Failure::GatewayError], true),
        (code(http(404)), vec![Failure::Code(http(404))], true),
        (code(http(404)), vec![Failure::ServerError], false),
        (code(grpc(14)), vec![Failure::Code(grpc(14))], true),
        (
            code(grpc(8)),
            vec![Failure::Code(grpc(14)), Failure::ServerError],
            false,
        ),
        (Met::Served, vec![Failure::ServerError], false),
    ] {
        let held = held(drawing("a b c", &failures), "a", what);
        assert_eq!(held == 1, counts, "{what:?} with {failures:?}");
    }
}

#[test]
fn rt_11_no_more_than_a_part_of_a_tier_is_held_back() {
    let ids = "a b c d e f g h i j";
    for (percent, held_back) in [(1, 1), (19, 1), (20, 2), (50, 5), (99, 9), (100, 9)] {
        let drawing = drawing(ids, &[Failure::ServerError]);
        let drawing = drawing.edit(|config| config.passive.max_ejected_percent = percent);
        assert_eq!(held(drawing, ids, FAILED), held_back, "{percent} %");
    }
    for (text, held_back) in [("a", 0), ("a b", 1), ("a b c", 1), ("a b c d", 2)] {
        let drawing = drawing(text, &[Failure::ServerError]);
        assert_eq!(held(drawing, text, FAILED), held_back, "{text}");
    }
}

/// Answers in vain, connections that end and such that are too late are bounded alike; and the only one of
/// a tier stays, though backups wait.
#[test]
fn rt_11_whatever_the_kind_of_failure_a_part_of_a_tier_stays() {
    for (what, failure) in [
        (FAILED, Failure::ServerError),
        (Met::Reset, Failure::Reset),
        (Met::Timeout, Failure::Timeout),
    ] {
        let held = |text, ids| held(drawing(text, &[failure]), ids, what);
        assert_eq!(held("a b c d e", "a b c d e"), 2, "{what:?}");
        assert_eq!(held("a b:backup c:backup", "a"), 0, "{what:?}");
    }
}

#[test]
fn rt_11_refused_connections_neither_count_there_nor_are_bounded() {
    let failures = [Failure::ConnectFailure, Failure::ServerError];
    let mut drawing = drawing("a b c d", &failures);
    drawing.fail("a b");
    drawing.meet("c", FAILED, NOW);
    assert_eq!(
        stands(&drawing, "c"),
        Standing::BackingOff,
        "the first of its kind"
    );
    drawing.meet("d", FAILED, NOW);
    assert_eq!(stands(&drawing, "d"), Standing::Ready, "the last");
    drawing.fail("d");
    assert_eq!(stands(&drawing, "d"), Standing::BackingOff);
}

#[test]
fn rt_11_backups_are_a_tier_of_their_own() {
    let text = "a b c:backup d:backup";
    let drawing = drawing(text, &[Failure::ServerError]);
    assert_eq!(held(drawing, "a b c d", FAILED), 2, "one of each");
}

#[test]
fn rt_11_a_window_over_makes_room_for_another() {
    let mut drawing = drawing("a b c", &[Failure::ServerError]);
    drawing.meet("a", FAILED, NOW);
    drawing.meet("b", FAILED, NOW);
    assert_eq!(stands(&drawing, "b"), Standing::Ready);
    drawing.wait_for("a");
    drawing.meet("b", FAILED, drawing.now);
    assert_eq!(stands(&drawing, "b"), Standing::BackingOff);
    drawing.serve("a");
    assert!(
        drawing.gates.of(drawing.key("a")).is_none(),
        "nothing is left of it"
    );
}

#[test]
fn an_answer_that_fails_may_cool_down_as_well() {
    let mut drawing = drawing("a b", &[Failure::Code(Code::http(429))]);
    drawing = drawing.cooldown(Default::default());
    assert_eq!(
        drawing.limit("a", None, NOW),
        "backoff_opened cooldown_started"
    );
    let mut drawing = self::drawing("a:waited b", &[]).cooldown(Default::default());
    assert_eq!(
        drawing.limit("a", None, NOW),
        "backoff_closed cooldown_started"
    );
}
