//! Rules of a decision: gates and tiers GT-1 to GT-8, lists, sticky sessions.

mod limits;

use super::*;
use crate::config::Policy;
use crate::testing::drawing::{Drawing, NOW, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Round robin from the first on, so that the list is known.
fn drawn(text: &str) -> Drawing {
    Drawing::new(text).policy(Policy::RoundRobin)
}

/// Checks the list and the reason of a first request.
#[track_caller]
fn check(text: &str, words: &str) {
    assert_eq!(drawn(text).words(), words, "{text}");
}

#[track_caller]
fn check_cookie(text: &str, cookie: &str, words: &str) {
    assert_eq!(
        drawn(text).cookie(cookie).words(),
        words,
        "{text} with {cookie}"
    );
}

#[test]
fn gt_1_nobody_gated_is_picked() {
    check("a:unhealthy b", "b by Primary alone");
    check("a:cooling b", "b by Primary alone");
    check("a:draining b", "b by Primary alone");
    check("a:cordoned b", "b by Primary alone");
    check(
        "a:unhealthy,cooling b:draining c:waited d",
        "c d by Primary",
    );
}

#[test]
fn gt_1_an_operators_word_beats_every_regime() {
    check("a:draining b:unhealthy", "b by FailOpen alone");
    check("a:cordoned b:cooling", "refuse AllBackingOff");
    check("a:draining b:cordoned", "refuse NoBackends");
    check_cookie("a:cordoned b c", "a", "b c by Primary lost");
}

#[test]
fn gt_3_exhausted_backends_are_tried_again_after_their_window() {
    check("a:down", "a by Primary alone");
    check("a:down b", "a b by Primary");
}

#[test]
fn gt_3_who_is_on_trial_counts_where_nobody_else_does() {
    check("a:trial b", "b by Primary alone");
    check("a:trial b:backup", "b by Backup alone");
    check("a:trial", "a by Primary alone");
    check("a:trial b:trial c:cooling", "a b by Primary");
    check("a:trial b:unhealthy", "a by Primary alone");
    check("a:trial,unhealthy b:unhealthy", "b by FailOpen alone");
    check("a:trial,unhealthy b:cooling", "a by FailOpen alone");
    check("a:trial b:max1,busy1", "a by Primary alone");
    check("a:trial,max1,busy1 b:max1,busy1", "refuse AllLimited");
    let refusing = drawn("a:trial,unhealthy").refusing().words();
    assert_eq!(refusing, "refuse AllUnhealthy");
    check_cookie("a:trial b", "a", "b by Primary alone lost");
    check_cookie("a:trial b:cooling", "a", "a by Sticky alone");
}

/// Else a backup that has failed once would stand in no list until it serves.
#[test]
fn gt_3_who_is_to_be_tried_stands_last_in_lists() {
    check("a b:waited c", "a c b by Primary");
    check("a b:waited c:backup", "a c b by Primary");
    check("a b:backup,waited", "a b by Primary");
    check("a b:limited", "a by Primary alone");
    check(
        "a b:waited,rate5/1,spent c:waited d:rate5/1,spent",
        "a c d by Primary",
    );
    let mut drawing = drawn("a b:waited c").edit(|config| config.backoff.half_open = false);
    assert_eq!(drawing.words(), "a b c by Primary");
}

#[test]
fn gt_4_backups_serve_only_when_no_primary_can() {
    check("a b c:backup", "a b c by Primary");
    check("a:cooling b c:backup", "b c by Primary");
    check("a:cooling b:unhealthy c:backup d:backup", "c d by Backup");
    check("a:draining c:backup", "c by Backup alone");
    for policy in [Policy::Random, Policy::LeastLoaded, Policy::PowerOfTwo] {
        let mut drawing = Drawing::new("a:busy9 b:busy9 c:backup").policy(policy);
        assert_eq!(drawing.shares(200).of("c"), 0, "{policy:?}");
        drawing.redraw("a:unhealthy b:unhealthy c:backup");
        assert_eq!(drawing.shares(200).of("c"), 200, "{policy:?}");
    }
}

#[test]
fn gt_5_fail_open_mixes_primaries_and_backups() {
    check("a:unhealthy b:unhealthy,backup", "a b by FailOpen");
    check(
        "a:unhealthy b:cooling c:unhealthy,backup",
        "a c by FailOpen",
    );
    check("a:unhealthy,waited", "a by FailOpen alone");
    let mut drawing = Drawing::new("a:unhealthy b:unhealthy,backup").policy(Policy::Random);
    drawing.shares(1000).each("a b", 500, 80);
    check("a:unhealthy b:backup", "b by Backup alone");
}

#[test]
fn gt_6_fail_open_respects_back_off() {
    check("a:cooling b:cooling", "refuse AllBackingOff");
    check(
        "a:unhealthy,cooling b:cooling,backup",
        "refuse AllBackingOff",
    );
    let decision = drawn("a:cooling9 b:cooling4 c:cooling7,backup").route();
    let Decision::Refuse { retry_after_ns, .. } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(retry_after_ns, Some(4 * SECOND), "the soonest end");
}

#[test]
fn gt_8_fail_open_can_be_switched_off() {
    let words = |text: &str| drawn(text).refusing().words();
    assert_eq!(words("a:unhealthy b:unhealthy"), "refuse AllUnhealthy");
    assert_eq!(words("a:unhealthy b:cooling"), "refuse AllUnhealthy");
    assert_eq!(words("a:unhealthy b"), "b by Primary alone");
    assert_eq!(words("a:cooling"), "refuse AllBackingOff");
    let decision = drawn("a:unhealthy").refusing().route();
    let Decision::Refuse { retry_after_ns, .. } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(retry_after_ns, None, "nobody knows when it heals");
}

#[test]
fn lb_19_an_empty_cluster_refuses() {
    check("", "refuse NoBackends");
    check_cookie("", "a", "refuse NoBackends");
}

#[test]
fn a_list_is_the_pick_its_tier_then_backups() {
    check("a b c d", "a b c by Primary");
    check("a b:backup c:backup", "a b c by Primary");
    check("a:backup b c:backup", "b a c by Primary");
    check(
        "a:cooling b:unhealthy c d:draining e:backup f:backup,cooling",
        "c e by Primary",
    );
}

#[test]
fn attempts_bound_a_list() {
    let words = |text: &str, attempts| drawn(text).attempts(attempts).words();
    assert_eq!(words("a b c", 1), "a by Primary");
    assert_eq!(
        words("a", 1),
        "a by Primary",
        "one attempt: nothing to stand twice for"
    );
    assert_eq!(words("a b c", 2), "a b by Primary");
    assert_eq!(
        words("a b c d e f g h i j k l", 10),
        "a b c d e f g h i j by Primary"
    );
}

#[test]
fn rt_7_a_list_has_nobody_twice_but_the_only_eligible() {
    check("a", "a by Primary alone");
    check("a b", "a b by Primary");
    check("a a2@a", "a by Primary alone");
    check("a a2@a:backup b:backup", "a b by Primary");
}

#[test]
fn the_next_best_are_the_next_least_loaded() {
    let text = "a:busy3 b:busy1 c d:busy2 e:backup,busy1 f:backup";
    let mut drawing = Drawing::new(text).policy(Policy::LeastLoaded).attempts(6);
    assert_eq!(drawing.list().concat(), "cbdafe");
}

#[test]
fn weight_0_stands_in_a_list_only_when_the_pick_has_none() {
    check("a b:w0 c", "a c by Primary");
    check("a b:w0", "a by Primary alone");
    check("a b:backup,w0", "a by Primary alone");
    check("a:w0 b:w0", "a b by Primary");
    check("a:w0 b:unhealthy", "a by Primary alone");
    check("a:w0,unhealthy b:unhealthy", "b by FailOpen alone");
}

#[test]
fn a_pick_of_weight_0_falls_back_to_backups_that_have_one() {
    check("a:w0 b:backup", "a b by Primary");
    check("a:w0 b:backup c:backup,w0", "a b by Primary");
    check("a:w0 b:backup,w0", "a b by Primary");
}

#[test]
fn st_2_the_cookie_is_followed() {
    let mut drawing = Drawing::new("a b c").cookie("b");
    assert_eq!(drawing.shares(100).of("b"), 100);
    check_cookie("a b c", "c", "c a b by Sticky");
    check_cookie("a b:says=x c", "x", "b a c by Sticky");
}

#[test]
fn st_3_a_cookie_that_names_nobody_is_lost() {
    check_cookie("a b:unhealthy", "b", "a by Primary alone lost");
    check_cookie("a b:cooling", "b", "a by Primary alone lost");
    check_cookie("a b:draining", "b", "a by Primary alone lost");
    check_cookie("a b", "z", "a b by Primary lost");
    check_cookie("a b", "", "a b by Primary lost");
    check_cookie("a:unhealthy", "a", "a by FailOpen alone lost");
    check_cookie("a:cooling", "a", "refuse AllBackingOff");
}

#[test]
fn st_3_of_several_cookies_one_that_names_a_live_backend_wins_in_any_order() {
    let check = |cookies: [&str; 2], words: &str| {
        let drawing = drawn("a b:says=x c:cooling");
        let mut drawing = cookies.into_iter().fold(drawing, Drawing::cookie);
        assert_eq!(drawing.words(), words, "{cookies:?}");
    };
    check(["old", "x"], "b a by Sticky");
    check(["x", "old"], "b a by Sticky");
    check(["c", "x"], "b a by Sticky");
    check(["a", "x"], "a b by Sticky");
    check(["old", "c"], "a b by Primary lost");
}

#[test]
fn st_5_an_id_without_sticky_id_sticks() {
    check_cookie("a b:says=x", "a", "a b by Sticky");
    check_cookie("a b:says=x", "b", "a b by Primary lost");
}

#[test]
fn st_6_a_cluster_that_is_not_sticky_knows_no_cookie() {
    let mut drawing = drawn("a b:says=b c");
    drawing.cookies = vec![b"b".to_vec()];
    assert_eq!(drawing.words(), "a b c by Primary lost");
}

#[test]
fn st_7_two_proxies_agree_on_an_operators_id() {
    for seed in 0..20 {
        let mut drawing = Drawing::new("a b:says=x c").cookie("x");
        drawing.rng = SplitMix64::new(seed);
        assert_eq!(drawing.pick(), "b");
    }
}

#[test]
fn st_8_a_sticky_backend_that_refuses_the_connection_falls_back_to_the_others() {
    check_cookie("a b c", "b", "b a c by Sticky");
    check_cookie("a b:backup", "a", "a b by Sticky");
    // A drained one keeps its clients, but not alone: the others have weight.
    check_cookie("a b:w0 c", "b", "b a c by Sticky");
    check_cookie("a:w0 b:w0 c:backup", "b", "b a c by Sticky");
}

#[test]
fn st_10_the_cookie_may_name_a_backup() {
    check_cookie("a b:backup", "b", "b a by Sticky");
}

#[test]
fn two_backends_with_one_sticky_id_both_count() {
    check_cookie("a:says=x,cooling b:says=x c", "x", "b c by Sticky");
    check_cookie("a:says=x b:says=x c", "x", "a b c by Sticky");
}

#[test]
fn a_sticky_pick_takes_no_turn() {
    let mut drawing = drawn("a b c").cookie("c");
    drawing.shares(5);
    drawing.cookies.clear();
    assert_eq!(drawing.pick(), "a");
}

#[test]
fn rg_21_every_request_is_decided_anew() {
    let mut drawing = drawn("a b").cookie("a");
    assert_eq!(drawing.pick(), "a");
    drawing.redraw("b");
    assert_eq!(drawing.words(), "b by Primary alone lost");
}

#[test]
fn rt_12_cooldowns_keep_out_like_back_offs_and_no_regime_lifts_them() {
    check("a:limited b c", "b c by Primary");
    check("a:limited b:backup", "b by Backup alone");
    check("a:limited b:unhealthy", "b by FailOpen alone");
    check("a:limited,unhealthy b:unhealthy", "b by FailOpen alone");
    check("a:limited", "refuse AllCoolingDown");
    check("a:limited b:cooling", "refuse AllBackingOff");
    check_cookie("a:limited b", "a", "b by Primary alone lost");
    let soonest = |text: &str| match drawn(text).route() {
        Decision::Refuse { retry_after_ns, .. } => retry_after_ns,
        Decision::Forward(_) => None,
    };
    assert_eq!(soonest("a:limited b:cooling9"), Some(SECOND / 2));
    assert_eq!(soonest("a:limited,cooling9"), Some(9 * SECOND));
}

#[test]
fn any_ready_ends_fail_open() {
    let ready = |text: &str| {
        let drawing = drawn(text);
        any_ready(
            &drawing.cluster,
            &GatesView::new(&drawing.cluster, &drawing.gates),
            NOW,
        )
    };
    assert!(ready("a:unhealthy b:backup") && ready("a:down") && ready("a:w0 b:unhealthy"));
    assert!(!ready("a:unhealthy b:cooling") && !ready("") && !ready("a:draining"));
    // One is well enough to be tried: nobody has to fail open.
    assert!(ready("a:trial b:unhealthy") && ready("a:trial"));
    assert!(!ready("a:trial,unhealthy b:unhealthy") && !ready("a:trial,limited"));
}
