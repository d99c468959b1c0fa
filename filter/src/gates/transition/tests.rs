//! Rules of what a response teaches: back-offs RT-1 to RT-10, availability GT-10 and GT-11, and the
//! list's arithmetic.

use super::*;
use crate::gates::standing::Standing;
use crate::testing::drawing::{NOW, SECOND, Sketch, names};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Judges what Envoy said of the list `a b c` of the cluster `a b c d`: "b 2 answered" is the
/// address of b, two attempts, an answer.
fn judged(said: &str, transport_only: bool) -> String {
    let sketch = Sketch::new("a b c d");
    let mut list = List::default();
    ["a", "b", "c"]
        .iter()
        .for_each(|id| list.push(sketch.endpoint(id)));
    judged_in(&sketch, &list, said, transport_only)
}

fn judged_in(sketch: &Sketch, list: &List, said: &str, transport_only: bool) -> String {
    let words: Vec<&str> = said.split(' ').collect();
    let address = match words[0] {
        "-" => None,
        "stranger" => Some("192.0.2.1:1".to_owned()),
        id => Some(
            sketch
                .cluster
                .endpoint(sketch.endpoint(id))
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
    let seen = Observation {
        address: address.as_ref().map(String::as_bytes),
        attempts: words[1].parse().unwrap(),
        ending,
    };
    let outcome = judge(&sketch.cluster, list, transport_only, &seen);
    let failed: Vec<String> = outcome
        .failed
        .entries()
        .iter()
        .map(|e| sketch.id(*e))
        .collect();
    let server = match outcome.server {
        Server::Endpoint(endpoint) => sketch.id(endpoint),
        other => format!("{other:?}"),
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
    let sketch = Sketch::new("a");
    let mut list = List::default();
    list.push(sketch.endpoint("a"));
    let outcome = |said: &str| judged_in(&sketch, &list, said, true);
    // The first attempt was reset and the second answered: the reset was of a stale connection.
    assert_eq!(outcome("a 2 answered"), "a failed []");
    assert_eq!(outcome("a 2 refused"), "Nobody failed [a] exhausted");
    assert_eq!(outcome("a 1 refused"), "Nobody failed [a] exhausted");
}

#[test]
fn rt_10_an_answer_is_an_answer_whatever_its_status() {
    let mut sketch = Sketch::new("a b");
    for _ in 0..100 {
        assert_eq!(sketch.serve("a"), "");
    }
    assert_eq!(sketch.gates, Gates::default());
    sketch.shares(1000).each("a b", 500, 80);
}

#[test]
fn rt_1_waits_grow_as_failures_are_counted() {
    for longest in 0..20 {
        let mut sketch = Sketch::new("a");
        sketch.rng = SplitMix64::new(longest);
        for most in [1, 1, 3, 7, 15, 31, 63, 63, 63] {
            sketch.fail("a");
            let gate = *sketch.gates.of(sketch.key("a")).unwrap();
            let wait = gate.until_ns - gate.failed_ns;
            assert!(
                (1..=most).contains(&(wait / SECOND)) && wait.is_multiple_of(SECOND),
                "{wait}"
            );
            assert_eq!(gate.failed_ns, sketch.now_ns);
            sketch.wait_for("a");
        }
        assert_eq!(sketch.tries("a"), 6, "counted no further");
    }
}

#[test]
fn rt_2_failures_in_the_window_count_once() {
    let mut sketch = Sketch::new("a b");
    assert_eq!(sketch.fail("a"), "backoff_opened");
    let first = sketch.gates.clone();
    for _ in 0..99 {
        sketch.now_ns += SECOND / 100 - 1;
        assert_eq!(sketch.fail("a"), "");
    }
    assert_eq!(sketch.gates, first);
    sketch.wait_for("a");
    assert_eq!(sketch.fail("a"), "backoff_opened");
    assert_eq!(sketch.tries("a"), 2);
}

#[test]
fn rt_3_a_success_resets() {
    let mut sketch = Sketch::new("a:down b");
    assert_eq!(sketch.serve("a"), "backoff_closed backend_up");
    assert_eq!(sketch.gates, Gates::default());
    sketch.fail("a");
    assert_eq!(
        sketch.gates.of(sketch.key("a")).unwrap().until_ns,
        sketch.now_ns + SECOND
    );
}

#[test]
fn a_success_of_a_request_that_was_picked_before_the_latest_failure_resets_nothing() {
    let mut sketch = Sketch::new("a b");
    sketch.fail("a");
    let failed = sketch.gates.clone();
    assert_eq!(sketch.learn("", Some("a"), NOW - 1), "");
    assert_eq!(
        sketch.learn("", Some("a"), NOW),
        "",
        "the same instant is not after"
    );
    assert_eq!(sketch.gates, failed);
    assert_eq!(sketch.learn("", Some("a"), NOW + 1), "backoff_closed");
}

#[test]
fn a_failure_from_before_the_clock_stepped_back_is_forgiven_by_a_success() {
    let mut sketch = Sketch::new("a:down b:down");
    sketch.now_ns = NOW / 2;
    sketch.fail("b");
    assert_eq!(
        sketch.tries("b"),
        6,
        "its window counts from the clock as it is now"
    );
    assert_eq!(sketch.serve("a"), "backoff_closed backend_up recovered");
}

#[test]
fn rt_5_down_and_up_once_per_edge() {
    let mut sketch = Sketch::new("a b");
    let mut events = Vec::new();
    for _ in 0..9 {
        events.push(sketch.fail("a"));
        sketch.wait_for("a");
    }
    let down = |event: &String| event.contains("backend_down");
    assert_eq!(events.iter().position(down), Some(5));
    assert_eq!(events.iter().filter(|e| down(e)).count(), 1);
    sketch.now_ns += 1;
    assert_eq!(sketch.serve("a"), "backoff_closed backend_up");
    assert_eq!(sketch.serve("a"), "");
}

#[test]
fn verdicts_and_back_offs_leave_each_other_alone() {
    let mut sketch = Sketch::new("a:unhealthy,waited b");
    assert_eq!(sketch.serve("a"), "backoff_closed");
    assert!(
        sketch
            .gates
            .of(sketch.key("a"))
            .is_some_and(|gate| gate.unhealthy)
    );
    sketch.fail("a");
    sketch.gates.judge(&[], |_| true);
    assert_eq!(sketch.tries("a"), 1, "a probe's success clears no back-off");
}

#[test]
fn lb_18_ids_at_one_address_fail_and_recover_together() {
    let mut sketch = Sketch::new("a a2@a b");
    assert_eq!(sketch.fail("a"), "backoff_opened");
    assert_eq!((sketch.tries("a"), sketch.tries("a2")), (1, 1));
    assert_eq!(sketch.words(), "b by Primary alone");
    // A newcomer at the address stands where the address stands, and counts on from there.
    sketch.redraw("a a2@a a3@a b");
    assert_eq!(sketch.fail("a3"), "");
    sketch.wait_for("a");
    sketch.fail("a");
    assert_eq!((sketch.tries("a"), sketch.tries("a3")), (2, 2));
    sketch.wait_for("a");
    sketch.now_ns += 1;
    assert_eq!(sketch.serve("a"), "backoff_closed");
    assert_eq!(sketch.gates, Gates::default());
}

#[test]
fn lb_18_a_newcomer_at_a_dead_address_is_no_recovery() {
    let mut sketch = Sketch::new("a");
    sketch.redraw("a:down");
    assert_eq!(
        names(&tidy(&sketch.cluster, &mut sketch.gates, NOW)),
        "all_down"
    );
    sketch.redraw("a a2@a");
    assert_eq!(count_available(&sketch.cluster, &sketch.gates), (0, 2));
    assert_eq!(names(&tidy(&sketch.cluster, &mut sketch.gates, NOW)), "");
}

#[test]
fn gt_2_available_is_healthy_normal_and_not_exhausted() {
    let text = "a b:cooling c:unhealthy d:down e:draining f:backup g:cordoned,unhealthy h:w0";
    let mut sketch = Sketch::new(text);
    assert_eq!(
        count_available(&sketch.cluster, &sketch.gates),
        (4, 8),
        "a b f h"
    );
    sketch.redraw("a");
    assert_eq!(
        count_available(&sketch.cluster, &sketch.gates),
        (1, 1),
        "strangers count nothing"
    );
}

#[test]
fn gt_10_all_down_and_recovered_once_per_edge() {
    let mut sketch = Sketch::new("a b");
    let mut events = String::new();
    for _ in 0..20 {
        events = format!("{events} {}", sketch.fail("a b"));
        sketch.now_ns += 70 * SECOND;
    }
    assert_eq!(
        events.matches("all_down").count(),
        1,
        "GT-11: no probe took part: {events}"
    );
    assert!(sketch.gates.all_down);
    assert_eq!(sketch.serve("b"), "backoff_closed backend_up recovered");
    assert_eq!(sketch.serve("b"), "");
}

#[test]
fn gt_10_an_all_down_cluster_that_is_emptied_does_not_recover() {
    let mut sketch = Sketch::new("a:down b:unhealthy");
    let tidied = |sketch: &mut Sketch| names(&tidy(&sketch.cluster, &mut sketch.gates, NOW));
    assert_eq!(tidied(&mut sketch), "all_down");
    sketch.redraw("");
    assert_eq!(tidied(&mut sketch), "");
    sketch.redraw("c");
    assert_eq!(tidied(&mut sketch), "recovered");
    sketch.redraw("");
    assert_eq!(
        tidied(&mut sketch),
        "",
        "an empty cluster is never all down"
    );
}

#[test]
fn gt_7_fail_open_is_latched_and_ends_when_somebody_is_ready() {
    let mut sketch = Sketch::new("a:unhealthy b:unhealthy");
    let mut events = Vec::new();
    for _ in 0..100 {
        fail_open(true, &mut sketch.gates, &mut events);
    }
    assert_eq!(names(&events), "fail_open_entered");
    assert_eq!(
        names(&tidy(&sketch.cluster, &mut sketch.gates, NOW)),
        "all_down"
    );
    sketch
        .gates
        .judge(&[], |key| key == sketch.cluster.backends[0].key);
    let events = tidy(&sketch.cluster, &mut sketch.gates, NOW);
    assert_eq!(names(&events), "fail_open_left recovered");
    assert_eq!(names(&tidy(&sketch.cluster, &mut sketch.gates, NOW)), "");
}

#[test]
fn rt_19_like_one_workers_failure_gates_all_from_the_next_request_on() {
    let mut first = Sketch::new("a b");
    let mut second = Sketch::new("a b");
    first.fail("a");
    let blob = first.gates.encode();
    let standing = |blob: &[u8], cas, now| {
        let a = second.endpoint("a");
        second
            .cluster
            .with_marks(blob, cas, |marks| marks.standing(a, now))
    };
    assert_eq!(standing(&[], 0, NOW), Standing::Ready);
    assert_eq!(standing(&blob, 1, NOW), Standing::BackingOff);
    assert_eq!(
        standing(&blob, 1, NOW + SECOND),
        Standing::Ready,
        "a cached blob is read anew"
    );
    assert_eq!(standing(&[], 2, NOW), Standing::Ready);
    second.gates = Gates::decode(&blob);
    assert_eq!(second.shares(100).of("b"), 100);
}
