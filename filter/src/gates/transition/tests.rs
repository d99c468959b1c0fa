//! Rules of what a response teaches: back-offs RT-1 to RT-10.

use super::*;
use crate::gates::standing::Standing;
use crate::gates::view::GatesView;
use crate::testing::drawing::{Drawing, NOW, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod cooldowns;
mod passive;

#[test]
fn rt_10_an_answer_is_an_answer_whatever_its_status() {
    let mut drawing = Drawing::new("a b");
    for _ in 0..100 {
        assert_eq!(drawing.serve("a"), "");
    }
    assert_eq!(drawing.gates, Gates::default());
    drawing.shares(1000).each("a b", 500, 80);
}

#[test]
fn rt_1_waits_grow_as_failures_are_counted() {
    for longest in 0..20 {
        let mut drawing = Drawing::new("a");
        drawing.rng = SplitMix64::new(longest);
        for most in [1, 1, 3, 7, 15, 31, 63, 63, 63] {
            drawing.fail("a");
            let gate = drawing.gates.of(drawing.key("a")).unwrap();
            let wait = gate.until.since(gate.failed_at);
            assert!(
                (1..=most).contains(&(wait / SECOND)) && wait.is_multiple_of(SECOND),
                "{wait}"
            );
            assert_eq!(gate.failed_at, drawing.now);
            drawing.wait_for("a");
        }
        assert_eq!(drawing.tries("a"), 6, "counted no further");
    }
}

/// A pick among backends against which nothing is held does not read the clock.
#[test]
fn rt_2_what_was_picked_while_nothing_was_held_is_older_than_all_that_is_counted() {
    let cooldown = crate::config::Cooldown::default();
    let mut drawing = Drawing::new("a b").cooldown(cooldown);
    let first = WallTime::FIRST;
    assert_eq!(drawing.learn("a", None, first), "backoff_opened");
    drawing.wait_for("a");
    assert_eq!(drawing.learn("a", None, first), "", "picked before");
    assert_eq!(drawing.learn("", Some("a"), first), "");
    assert_eq!(drawing.limit("b", None, first), "cooldown_started");
    drawing.wait_for("b");
    assert_eq!(drawing.limit("b", None, first), "", "picked before");
    let mut judged = Drawing::new("a:unhealthy b");
    assert_eq!(judged.learn("a", None, first), "backoff_opened");
}

#[test]
fn rt_2_failures_in_the_window_count_once() {
    let mut drawing = Drawing::new("a b");
    assert_eq!(drawing.fail("a"), "backoff_opened");
    let first = drawing.gates.clone();
    for _ in 0..99 {
        drawing.now = drawing.now.plus(SECOND / 100 - 1);
        assert_eq!(drawing.fail("a"), "");
    }
    assert_eq!(drawing.gates, first);
    drawing.wait_for("a");
    assert_eq!(drawing.fail("a"), "backoff_opened");
    assert_eq!(drawing.tries("a"), 2);
}

/// RT-2: the incident's requests fail one after the other, long after the window of the first.
#[test]
fn rt_2_one_incident_is_one_try() {
    let mut drawing = Drawing::new("a b");
    for _ in 0..100 {
        drawing.now = drawing.now.plus(SECOND);
        drawing.learn("a", None, NOW);
    }
    assert_eq!(drawing.tries("a"), 1);
    let after = drawing.now;
    assert_eq!(
        drawing.learn("a", None, NOW.plus(SECOND)),
        "",
        "picked at the very time of the failure"
    );
    assert_eq!(drawing.learn("a", None, after), "backoff_opened");
    assert_eq!(drawing.tries("a"), 2);
}

/// RT-9: it may have been a stale connection. GT-6: a refused one gates the last, too.
#[test]
fn rt_9_a_failure_of_unknown_kind_leaves_the_last_to_serve() {
    for (text, failed, events) in [
        ("a b", "a? b?", "backoff_opened"),
        ("a b", "a? b", "backoff_opened backoff_opened"),
        ("a b:cooling", "a?", ""),
        ("a b:waited", "a?", "backoff_opened"),
        ("a b:backup", "a?", "backoff_opened"),
        ("a b:draining", "a?", ""),
        ("a b@a", "a?", ""),
        ("a b:unhealthy", "a?", ""),
        ("a b:unhealthy", "b?", "backoff_opened"),
        (
            "a:unhealthy b:unhealthy",
            "a? b?",
            "backoff_opened all_down",
        ),
    ] {
        let mut drawing = Drawing::new(text);
        let told = drawing.fail(failed);
        assert_eq!(told, events, "{text}: {failed}");
    }
}

#[test]
fn rt_3_a_success_resets() {
    let mut drawing = Drawing::new("a:down b");
    assert_eq!(drawing.serve("a"), "backoff_closed backend_up");
    assert_eq!(drawing.gates, Gates::default());
    drawing.fail("a");
    assert_eq!(
        drawing.gates.of(drawing.key("a")).unwrap().until,
        drawing.now.plus(SECOND)
    );
}

#[test]
fn a_success_of_a_request_that_was_picked_before_the_latest_failure_resets_nothing() {
    let mut drawing = Drawing::new("a b");
    drawing.fail("a");
    let failed = drawing.gates.clone();
    assert_eq!(
        drawing.learn("", Some("a"), WallTime::from_ns(NOW.ns() - 1)),
        ""
    );
    assert_eq!(
        drawing.learn("", Some("a"), NOW),
        "",
        "the same instant is not after"
    );
    assert_eq!(drawing.gates, failed);
    assert_eq!(drawing.learn("", Some("a"), NOW.plus(1)), "backoff_closed");
}

#[test]
fn a_failure_from_before_the_clock_stepped_back_is_forgiven_by_a_success() {
    let mut drawing = Drawing::new("a:down b:down");
    drawing.now = WallTime::from_ns(NOW.ns() / 2);
    drawing.fail("b");
    assert_eq!(
        drawing.tries("b"),
        6,
        "its window counts from the clock as it is now"
    );
    assert_eq!(drawing.serve("a"), "backoff_closed backend_up");
}

#[test]
fn rt_5_down_and_up_once_per_edge() {
    let mut drawing = Drawing::new("a b");
    let mut events = Vec::new();
    for _ in 0..9 {
        events.push(drawing.fail("a"));
        drawing.wait_for("a");
    }
    let down = |event: &String| event.contains("backend_down");
    assert_eq!(events.iter().position(down), Some(5));
    assert_eq!(events.iter().filter(|e| down(e)).count(), 1);
    drawing.now = drawing.now.plus(1);
    assert_eq!(drawing.serve("a"), "backoff_closed backend_up");
    assert_eq!(drawing.serve("a"), "");
}

#[test]
fn rt_5_down_and_up_stay_pairs_over_an_edit_of_the_tries_that_count() {
    for (before, after, told) in [(2, 6, "down up"), (6, 2, "down up"), (6, 5, "")] {
        let mut drawing = Drawing::new("a b").edit(|config| config.backoff.max_tries = before);
        let mut events = String::new();
        for nth in 0..4 {
            if nth == 3 {
                drawing = drawing.edit(|config| config.backoff.max_tries = after);
            }
            events += &drawing.fail("a");
            drawing.wait_for("a");
        }
        events += &drawing.serve("a");
        let told_of = |word: &str| events.matches(&format!("backend_{word}")).count();
        for word in ["down", "up"] {
            assert_eq!(told_of(word), told.matches(word).count(), "{events}");
        }
    }
}

#[test]
fn verdicts_and_back_offs_leave_each_other_alone() {
    let mut drawing = Drawing::new("a:unhealthy,waited b");
    assert_eq!(drawing.serve("a"), "backoff_closed");
    assert!(
        drawing
            .gates
            .of(drawing.key("a"))
            .is_some_and(|gate| gate.unhealthy)
    );
    drawing.fail("a");
    drawing.gates.judge(&[], |_| true, drawing.now);
    assert_eq!(
        drawing.tries("a"),
        1,
        "a probe's success clears no back-off"
    );
}

#[test]
fn lb_18_ids_at_one_address_fail_and_recover_together() {
    let mut drawing = Drawing::new("a a2@a b");
    assert_eq!(drawing.fail("a"), "backoff_opened");
    assert_eq!((drawing.tries("a"), drawing.tries("a2")), (1, 1));
    assert_eq!(drawing.words(), "b by Primary alone");
    // A newcomer at the address stands where the address stands, and counts on from there.
    drawing.redraw("a a2@a a3@a b");
    assert_eq!(drawing.fail("a3"), "");
    drawing.wait_for("a");
    drawing.fail("a");
    assert_eq!((drawing.tries("a"), drawing.tries("a3")), (2, 2));
    drawing.wait_for("a");
    drawing.now = drawing.now.plus(1);
    assert_eq!(drawing.serve("a"), "backoff_closed");
    assert_eq!(drawing.gates, Gates::default());
}

#[test]
fn rt_19_like_one_workers_failure_gates_all_from_the_next_request_on() {
    let mut first = Drawing::new("a b");
    let mut second = Drawing::new("a b");
    first.fail("a");
    let blob = first.gates.encode();
    let standing = |blob: &[u8], now| {
        GatesView::read(&second.cluster, blob).standing(second.endpoint("a"), now)
    };
    assert_eq!(standing(&[], NOW), Standing::Ready);
    assert_eq!(standing(&blob, NOW), Standing::BackingOff);
    assert_eq!(standing(&blob, NOW.plus(SECOND)), Standing::Ready);
    second.gates = Gates::decode(&blob);
    assert_eq!(second.shares(100).of("b"), 100);
}
