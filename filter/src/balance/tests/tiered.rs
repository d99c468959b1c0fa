//! Tiered: ranks, costs, turns (LB-13 to LB-16, LB-22).

use super::super::explain::ranks;
use super::super::route::Decision;
use crate::base::random::SplitMix64;
use crate::config::Policy;
use crate::testing::drawing::{Drawing, NOW, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MS: u64 = 1_000_000;

fn tiered(text: &str) -> Drawing {
    Drawing::new(text).policy(Policy::Tiered)
}

/// Many answers that take so long.
fn answers(drawing: &Drawing, id: &str, lasted_ns: u64) {
    for _ in 0..100 {
        let ranking = &drawing.load(id).ranking;
        ranking.succeed(Some(lasted_ns), drawing.now);
    }
}

/// Picks go around: of so many in a row no two are one.
fn go_around(drawing: &mut Drawing, among: usize) {
    let picks = drawing.picks(30);
    for row in picks.windows(among) {
        let mut row = row.to_vec();
        row.sort();
        row.dedup();
        assert_eq!(row.len(), among, "{picks:?}");
    }
}

#[test]
fn lb_13_tiers_are_tried_strictly_in_their_order() {
    for (text, picks) in [
        ("a:w20 b:w60 c", "ccc"),
        ("a:w20 b:w60 c:cooling", "bbb"),
        ("a:w20 b:w60,unhealthy c:limited", "aaa"),
        ("a:w20,draining b:w60,cordoned c:unhealthy", "ccc"),
        ("a:w1 b:w49 c:w50", "ccc"),
        ("a:w99 b:w100", "bbb"),
        ("a:w20,unhealthy b:w60,unhealthy", "bbb"),
        ("a:w200,backup b:w1", "bbb"),
        ("a:w65535 b:w100", "aaa"),
    ] {
        assert_eq!(tiered(text).picks(3).concat(), picks, "{text}");
    }
    assert_eq!(tiered("a:w20 b:w60 c").list().concat(), "cba");
    let mut drawing = tiered("a:w20 b:w60 c:w200 d:backup").attempts(4);
    assert_eq!(drawing.list().concat(), "cbad");
}

#[test]
fn lb_14_equals_take_turns_whatever_the_clock_says() {
    for text in ["a b", "a:w60 b:w60", "a:w7 b:w7"] {
        go_around(&mut tiered(text), 2);
    }
    let mut drawing = tiered("a b c d:w99");
    go_around(&mut drawing, 3);
    drawing.redraw("c b a");
    go_around(&mut drawing, 3);
    // One who comes is not sent all that it has missed.
    drawing.redraw("a b c e");
    assert_eq!(drawing.pick(), "e");
    go_around(&mut drawing, 4);
    // Nor is one who was away.
    drawing.redraw("a:cooling b c");
    drawing.picks(1000);
    drawing.now = drawing.now.plus(SECOND);
    go_around(&mut drawing, 3);
    // And one who was alone for long is not left out for as long.
    drawing.redraw("a b:cooling c:cooling");
    drawing.picks(1000);
    drawing.now = drawing.now.plus(SECOND);
    drawing.redraw("a:cooling b c");
    drawing.picks(10);
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(drawing.pick(), "a", "it is the longest ago");
    go_around(&mut drawing, 3);
}

#[test]
fn lb_14_in_the_middle_tier_the_cheaper_of_equals_and_by_weight_first() {
    let mut drawing = tiered("a:w60 b:w60");
    answers(&drawing, "a", MS);
    answers(&drawing, "b", 900 * MS);
    go_around(&mut drawing, 2);
    answers(&drawing, "b", 2100 * MS);
    assert_eq!(drawing.picks(9).concat(), "aaaaaaaaa");
    drawing.load("a").ranking.fail(5 * SECOND, drawing.now);
    assert_eq!(drawing.picks(9).concat(), "bbbbbbbbb", "4 s of penalties");
    // A dearer one of more weight is before them.
    drawing.redraw("a:w60 b:w60 c:w61");
    drawing.load("c").ranking.fail(30 * SECOND, drawing.now);
    assert_eq!(drawing.picks(3).concat(), "ccc");
    for text in ["a b", "a:w49 b:w49"] {
        let mut drawing = tiered(text);
        drawing.load("a").ranking.fail(30 * SECOND, NOW);
        go_around(&mut drawing, 2);
    }
}

#[test]
fn lb_15_nobody_starves_in_the_middle_tier() {
    let mut drawing = tiered("a:w60 b:w60");
    answers(&drawing, "a", MS);
    assert_eq!(drawing.picks(3).concat(), "aaa", "b is taken for 5 s");
    drawing.now = NOW.plus(60 * SECOND);
    answers(&drawing, "a", MS);
    assert_eq!(drawing.picks(3).concat(), "aaa", "1.25 s");
    drawing.now = NOW.plus(90 * SECOND);
    go_around(&mut drawing, 2);
}

#[test]
fn lb_16_weight_zero_is_a_drain() {
    for (text, words) in [
        ("a:w0 b:w1", "b by Primary alone"),
        ("a:w0", "refuse NoBackends"),
        ("a:w0 b:backup", "b by Backup alone"),
        ("a:w0 b:unhealthy", "b by FailOpen alone"),
        ("a:w0,unhealthy", "refuse NoBackends"),
        ("a:w0 a2@a:w5", "a2 by Primary alone"),
    ] {
        assert_eq!(tiered(text).words(), words, "{text}");
    }
    let mut drawing = tiered("a:w0 b").cookie("a");
    assert_eq!(drawing.words(), "b by Primary alone lost");
    let mut drawing = tiered("a b");
    drawing.redraw("a b:w0");
    assert_eq!(drawing.picks(3).concat(), "aaa");
}

#[test]
fn rl_2_who_has_no_token_is_passed_by_down_the_tiers() {
    for (text, words) in [
        ("a:rate5/1,spent b:w60", "b a by Primary deferred"),
        (
            "a:max1,busy1 b:w60 c:w60,rate5/1,spent",
            "b c by Primary deferred",
        ),
    ] {
        assert_eq!(tiered(text).words(), words, "{text}");
    }
}

#[test]
fn lb_20_a_policy_can_be_changed_to_it_and_back() {
    let mut drawing = Drawing::new("a:w100 b:w300").policy(Policy::RoundRobin);
    drawing.shares(400).each("a b", 200, 100);
    let mut drawing = drawing.policy(Policy::Tiered);
    drawing.redraw("a b");
    drawing.picks(2);
    go_around(&mut drawing, 2);
    drawing.redraw("a:w100 b:w300");
    let mut drawing = drawing.policy(Policy::RoundRobin);
    drawing.shares(4);
    assert!(drawing.shares(400).of("a").abs_diff(100) <= 2);
}

#[test]
fn lb_21_workers_that_start_together_begin_at_different_ones() {
    let mut firsts: Vec<String> = Vec::new();
    for seed in 0..50 {
        let mut drawing = tiered("a b c");
        drawing.rng = SplitMix64::new(seed);
        firsts.push(drawing.pick());
    }
    for id in ["a", "b", "c"] {
        let count = firsts.iter().filter(|first| *first == id).count();
        assert!((8..=26).contains(&count), "{id}: {count} of 50");
    }
}

#[test]
fn lb_22_a_picks_tier_has_a_name() {
    let name = |mut drawing: Drawing| match drawing.route() {
        Decision::Forward(plan) => plan.tier_name(&drawing.cluster),
        Decision::Refuse { .. } => None,
    };
    for (text, tier) in [
        ("a:w100", "tier_1"),
        ("a:w99", "tier_2"),
        ("a:w50", "tier_2"),
        ("a:w49", "tier_3"),
        ("a:cooling b:w60", "tier_2"),
    ] {
        assert_eq!(name(tiered(text)), Some(tier), "{text}");
    }
    assert_eq!(name(Drawing::new("a:w60")), None);
}

#[test]
fn lb_15_ranks_are_explained() {
    let drawing = tiered("a:w60 b c:w0");
    drawing.load("a").ranking.fail(10 * SECOND, NOW);
    drawing.load("a").ranking.succeed(Some(0), NOW);
    answers(&drawing, "b", 20 * MS);
    let words = |drawing: &Drawing| -> Vec<String> {
        let gates = drawing.view();
        let ranks = ranks(&drawing.facts(&gates));
        let words = ranks.iter().flatten().map(ToString::to_string);
        words.collect()
    };
    let expected = [
        "tier 2, weight 60, cost 8500 ms (latency 4500 ms, penalty 4000 ms)",
        "tier 1, weight 100, cost 1000 ms (latency 21 ms, penalty 0 ms)",
    ];
    assert_eq!(words(&drawing)[..2], expected);
    assert!(words(&Drawing::new("a b")).is_empty());
}
