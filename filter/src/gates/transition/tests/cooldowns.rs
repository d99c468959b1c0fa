//! Rules of answers that cool a backend down: RT-12 to RT-14.

use super::*;
use crate::config::Cooldown;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn limited(text: &str) -> Drawing {
    Drawing::new(text).cooldown(Cooldown::default())
}

fn count(drawing: &Drawing, id: &str) -> u8 {
    let gate = drawing.gates.of(drawing.key(id));
    gate.map_or(0, |gate| gate.cooldowns)
}

fn standing(drawing: &Drawing, id: &str) -> Standing {
    drawing.view().standing(drawing.endpoint(id), drawing.now)
}

fn wait_s(drawing: &Drawing, id: &str) -> u64 {
    drawing.view().wait_ns(drawing.endpoint(id), drawing.now) / SECOND
}

#[test]
fn rt_12_each_answer_after_a_cooldown_leads_to_one_twice_as_long() {
    let mut drawing = limited("a b");
    for seconds in [6, 12, 24, 48, 60, 60, 60] {
        let events = drawing.limit("a", None, drawing.now);
        assert_eq!(events, "cooldown_started");
        assert_eq!(wait_s(&drawing, "a"), seconds);
        assert_eq!(standing(&drawing, "a"), Standing::CoolingDown);
        assert!(!drawing.picks(50).contains(&"a".to_owned()));
        drawing.wait_for("a");
        assert_eq!(standing(&drawing, "a"), Standing::Ready);
    }
}

#[test]
fn rt_12_answers_to_what_was_picked_before_escalate_nothing() {
    let mut drawing = limited("a b");
    drawing.limit("a", None, NOW);
    let first = drawing.gates.clone();
    for _ in 0..100 {
        drawing.now = drawing.now.plus(SECOND / 100);
        assert_eq!(drawing.limit("a", None, NOW), "");
    }
    assert_eq!(drawing.gates, first);
    drawing.now = NOW.plus(30 * SECOND);
    assert_eq!(drawing.limit("a", None, NOW), "", "long after its cooldown");
    assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (1, 0));
}

#[test]
fn rt_13_what_an_answer_asks_for_counts_and_an_old_one_may_only_lengthen() {
    let mut drawing = limited("a b");
    assert_eq!(
        drawing.limit("a", Some(20 * SECOND), NOW),
        "cooldown_started"
    );
    assert_eq!(wait_s(&drawing, "a"), 20);
    drawing.now = drawing.now.plus(SECOND);
    for (asked, left) in [(5, 19), (30, 30), (9999, 60)] {
        assert_eq!(drawing.limit("a", Some(asked * SECOND), NOW), "");
        assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (1, left));
    }
}

/// An old answer may lengthen a cooldown whose end has passed. What was picked in between says nothing of
/// the time after the new end.
#[test]
fn rt_13_what_was_picked_before_a_cooldown_was_lengthened_neither_escalates_nor_ends_it() {
    let mut drawing = limited("a b");
    drawing.limit("a", None, NOW);
    drawing.wait_for("a");
    let between = drawing.now;
    drawing.now = between.plus(SECOND);
    assert_eq!(drawing.limit("a", Some(30 * SECOND), NOW), "");
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(drawing.limit("a", None, between), "");
    drawing.learn("", Some("a"), between);
    assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (1, 29));
}

#[test]
fn rt_14_a_success_after_the_cooldown_forgets_it() {
    let mut drawing = limited("a b");
    drawing.limit("a", None, NOW);
    let cooled = drawing.gates.clone();
    drawing.learn("", Some("a"), NOW);
    assert_eq!(drawing.gates, cooled, "picked before");
    drawing.wait_for("a");
    drawing.serve("a");
    assert!(drawing.gates.encode().is_empty());
    drawing.limit("a", None, drawing.now);
    assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (1, 6));
}

#[test]
fn rt_14_a_probe_that_finds_it_well_again_forgets_the_count_and_keeps_the_end() {
    let mut drawing = limited("a:unhealthy b");
    drawing.limit("a", Some(40 * SECOND), NOW);
    drawing.gates.judge(&[], |_| true, NOW);
    assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (0, 40));
    let mut kept = drawing.gates.clone();
    kept.prune(NOW, 0, true, |_| true);
    assert_eq!(kept, drawing.gates);
    drawing.wait_for("a");
    kept.prune(drawing.now, 0, true, |_| true);
    assert!(kept.encode().is_empty(), "nothing is left of it");
}

#[test]
fn rt_12_a_cooldown_says_nothing_of_the_way_to_a_backend_nor_of_its_health() {
    let mut drawing = limited("a:waited b:unhealthy c");
    assert_eq!(
        drawing.limit("a", None, NOW),
        "backoff_closed cooldown_started"
    );
    assert_eq!(drawing.tries("a"), 0);
    drawing.limit("b", None, NOW);
    let gate = drawing.gates.of(drawing.key("b")).unwrap();
    assert!(gate.unhealthy && gate.cools(NOW));
    drawing.fail("c");
    assert_eq!(
        (count(&drawing, "c"), standing(&drawing, "c")),
        (0, Standing::BackingOff)
    );
}

#[test]
fn lb_18_all_ids_at_an_address_share_a_cooldown() {
    let mut drawing = limited("a a2@a b");
    drawing.limit("a2", None, NOW);
    assert_eq!((count(&drawing, "a"), count(&drawing, "a2")), (1, 1));
    drawing.wait_for("a");
    drawing.serve("a");
    assert!(drawing.gates.encode().is_empty());
}

#[test]
fn a_cooldown_from_before_the_clock_stepped_back_is_no_news() {
    let mut drawing = limited("a b");
    drawing.limit("a", None, NOW);
    drawing.now = WallTime::from_ns(NOW.ns() - 3600 * SECOND);
    assert_eq!(standing(&drawing, "a"), Standing::Ready);
    let now = drawing.now;
    assert_eq!(drawing.limit("a", None, now), "cooldown_started");
    assert_eq!((count(&drawing, "a"), wait_s(&drawing, "a")), (2, 12));
    drawing.wait_for("a");
    drawing.serve("a");
    assert!(drawing.gates.encode().is_empty());
}

#[test]
fn a_cluster_without_cooldowns_learns_none() {
    let mut drawing = Drawing::new("a b");
    assert_eq!(drawing.limit("a", Some(SECOND), NOW), "");
    assert!(drawing.gates.encode().is_empty());
}
