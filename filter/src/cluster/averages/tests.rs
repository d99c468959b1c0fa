//! The averages of Tiered, by scripts (LB-15, RT-15, RT-16).

use std::time::Duration;

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MS: u64 = 1_000_000;
const START: WallTime = WallTime::from_ns(1000 * SECOND_NS);

/// Averages that begin at 5 s.
fn fresh(smoothing: u32) -> Ranking {
    let ranking = Ranking::default();
    let averaging = Averaging {
        smoothing,
        ..Averaging::default()
    };
    ranking.configure(Some(averaging), START);
    ranking
}

fn at(seconds: u64) -> WallTime {
    START.plus(seconds * SECOND_NS)
}

#[test]
fn rt_16_scripted_latencies_reproduce_the_averages() {
    for (smoothing, script) in [
        // Of each the tenth part, from 5 s on; nothing is rounded away.
        (
            100,
            &[
                (0, 4_500_000_000),
                (7 * MS, 4_050_700_000),
                (10_000 * MS, 4_645_630_000),
            ][..],
        ),
        (
            500,
            &[
                (1000 * MS, 3_000_000_000),
                (1000 * MS, 2_000_000_000),
                (0, 1_000_000_000),
            ],
        ),
        (
            1000,
            &[(3 * MS, 3_000_000), (1, 1), (60_000 * MS, 60_000_000_000)],
        ),
        (1, &[(0, 4_995_000_000), (0, 4_990_005_000)]),
    ] {
        let ranking = fresh(smoothing);
        for (lasted_ns, due) in script {
            ranking.succeed(Some(*lasted_ns), START);
            assert_eq!(ranking.at(START).latency_ns, *due, "{smoothing}");
        }
    }
    let unmeasured = fresh(100);
    unmeasured.succeed(None, START);
    assert_eq!(unmeasured.at(START).latency_ns, 5 * SECOND_NS);
}

#[test]
fn rt_15_penalties_by_a_script_of_failures() {
    let ranking = fresh(100);
    let due_ms = [24_000, 20_800, 10_400, 14_080, 10_816, 6_163, 3_081, 1_540];
    let script = [
        Some(30),
        Some(20),
        None,
        Some(15),
        Some(10),
        Some(5),
        None,
        None,
    ];
    for (failed, due_ms) in script.into_iter().zip(due_ms) {
        match failed {
            Some(seconds) => ranking.fail(seconds * SECOND_NS, START),
            None => ranking.succeed(None, START),
        }
        assert_eq!(ranking.at(START).penalty_ns / MS, due_ms);
    }
}

#[test]
fn rt_15_answers_count_by_their_kind() {
    for (codes, seconds) in [
        (&[100, 200, 204, 301, 304, 399][..], 0),
        // The client's own: it must not steer picks by bad requests (invariant 5).
        (&[400, 404, 408, 428, 430, 499], 0),
        (&[429], 10),
        (&[500, 503, 599], 15),
    ] {
        for code in codes {
            assert_eq!(penalty_ns(Code::http(*code)), seconds * SECOND_NS, "{code}");
        }
    }
    for (codes, seconds) in [
        (&[0][..], 0),
        (&[1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 16], 0),
        (&[8], 10),
        (&[2, 13, 14, 15], 15),
    ] {
        for code in codes {
            let penalty = penalty_ns(Code::grpc(*code));
            assert_eq!(penalty, seconds * SECOND_NS, "grpc:{code}");
        }
    }
}

#[test]
fn lb_15_a_cost_is_both_averages_and_one_second_at_least() {
    let cost = |latency_ns, penalty_ns| {
        let fed_at = START;
        Average {
            latency_ns,
            penalty_ns,
            fed_at,
        }
        .cost_ns()
    };
    assert_eq!(cost(0, 0), SECOND_NS);
    assert_eq!(cost(600 * MS, 400 * MS), SECOND_NS);
    assert_eq!(cost(600 * MS, 401 * MS), SECOND_NS + MS);
    assert_eq!(cost(u64::MAX, 1), u64::MAX);
}

#[test]
fn what_is_not_fed_halves_every_thirty_seconds() {
    let ranking = fresh(100);
    ranking.fail(20 * SECOND_NS, START);
    let cost_ms = |seconds| ranking.at(at(seconds)).cost_ns() / MS;
    for (seconds, due_ms) in [
        (0, 21_000),
        (29, 21_000),
        (30, 10_500),
        (59, 10_500),
        (60, 5_250),
        (120, 1_312),
        (150, 1_000),
        (1_000_000, 1_000),
    ] {
        assert_eq!(cost_ms(seconds), due_ms, "after {seconds} s");
    }
    let earlier = WallTime::from_ns(1);
    assert_eq!(
        ranking.at(earlier).cost_ns(),
        COST_MIN_NS,
        "the clock stepped back"
    );
    // What is left is what the next one is mixed with, and then it is fresh.
    ranking.fail(20 * SECOND_NS, at(60));
    assert_eq!(ranking.at(at(89)).penalty_ns, 16_800 * MS);
    let untried = fresh(100);
    assert_eq!(untried.at(at(29)).cost_ns(), 5 * SECOND_NS);
    assert_eq!(untried.at(at(90)).cost_ns(), COST_MIN_NS, "nobody starves");
}

#[test]
fn own_averages_count_before_the_freshest_of_others() {
    let told = |seconds, fed_at| Average {
        latency_ns: seconds * SECOND_NS,
        penalty_ns: seconds * SECOND_NS,
        fed_at: at(fed_at),
    };
    let ranking = fresh(100);
    assert_eq!(ranking.report(START), None, "nothing of its own");
    for told in [told(4, 1), told(2, 3), told(9, 2)] {
        ranking.hear(told);
    }
    assert_eq!(
        ranking.at(at(3)).cost_ns(),
        5 * SECOND_NS,
        "not all have been read"
    );
    ranking.turn_over();
    assert_eq!(ranking.at(at(3)), told(2, 3));
    assert_eq!(ranking.report(at(3)), None);
    // Its own begin where they are.
    ranking.succeed(Some(SECOND_NS), at(3));
    let own = ranking.at(at(3));
    assert_eq!((own.latency_ns, own.penalty_ns), (1_900 * MS, SECOND_NS));
    ranking.hear(told(9, 9));
    ranking.turn_over();
    assert_eq!(ranking.at(at(3)), own);
    assert_eq!(ranking.report(at(9)), Some(own));
    assert_eq!(ranking.report(at(3000)), None, "forgotten");
    let other = fresh(100);
    other.hear(told(9, 9));
    other.turn_over();
    assert_eq!(other.at(at(9)).latency_ns, 9 * SECOND_NS);
    other.turn_over();
    assert_eq!(other.at(START).latency_ns, 5 * SECOND_NS);
}

#[test]
fn who_waited_in_vain_only_ever_lengthens() {
    let ranking = fresh(500);
    ranking.wait(4 * SECOND_NS, START);
    assert_eq!(ranking.report(START), None);
    ranking.wait(7 * SECOND_NS, START);
    assert_eq!(ranking.at(START).latency_ns, 6 * SECOND_NS);
}

#[test]
fn ad_5_an_edit_keeps_averages_and_another_policy_drops_them() {
    let ranking = fresh(100);
    ranking.fail(20 * SECOND_NS, START);
    let quick = Averaging {
        smoothing: 1000,
        initial_latency: Duration::ZERO,
    };
    ranking.configure(Some(quick), at(5));
    assert_eq!(ranking.at(at(5)).penalty_ns, 16 * SECOND_NS);
    ranking.succeed(Some(MS), at(5));
    assert_eq!(ranking.at(at(5)).latency_ns, MS, "by the new settings");
    let unmeasured = fresh(100);
    unmeasured.configure(Some(quick), START);
    assert_eq!(unmeasured.at(START).latency_ns, 0);
    ranking.configure(None, at(6));
    ranking.fail(20 * SECOND_NS, at(6));
    assert_eq!(
        (ranking.report(at(6)), ranking.at(at(6)).penalty_ns),
        (None, 0)
    );
    ranking.configure(Some(quick), at(6));
    assert_eq!(ranking.at(at(6)).cost_ns(), COST_MIN_NS);
}
