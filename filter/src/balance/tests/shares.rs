//! Weights are shares over many picks (LB-2, LB-3, LB-5, LB-8; DESIGN §6), however many requests run at a
//! time.

use super::POLICIES;
use crate::base::random::SplitMix64;
use crate::config::{Metric, Policy};
use crate::gates::standing::Admit;
use crate::testing::drawing::Drawing;
use crate::testing::shares::Shares;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const REQUESTS: u32 = 20_000;

/// The share of `a`, percent, while `in_flight` requests run at any time, each for as long as chance has it.
fn share_of_a(text: &str, policy: Policy, metric: Metric, in_flight: usize) -> f64 {
    let mut drawing = Drawing::new(text).policy(policy).metric(metric).attempts(1);
    let mut ends = SplitMix64::new(11);
    let mut running: Vec<String> = Vec::with_capacity(in_flight);
    let mut picked = 0;
    for _ in 0..REQUESTS {
        if running.len() == in_flight {
            let ended = ends.below(in_flight as u32) as usize;
            drawing.load(&running.swap_remove(ended)).end();
        }
        let pick = drawing.pick();
        drawing.load(&pick).begin();
        picked += u32::from(pick == "a");
        running.push(pick);
    }
    f64::from(picked) * 100.0 / f64::from(REQUESTS)
}

/// `a` beside nine others.
fn ten(weight: u16, others: u16) -> String {
    let others = ["b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|id| format!(" {id}:w{others}"));
    format!("a:w{weight}{}", others.concat())
}

#[test]
fn lb_8_a_heavy_one_gets_its_share_at_any_load() {
    for policy in POLICIES {
        for metric in [Metric::Requests, Metric::Connections] {
            for (in_flight, off) in [(1, 2.0), (5, 6.0), (50, 4.5), (400, 2.0)] {
                // Where the least loaded is asked for, weights are shares under load alone.
                let off = match policy {
                    Policy::LeastLoaded if in_flight < 50 => continue,
                    Policy::LeastLoaded => 5.0,
                    _ => off,
                };
                let share = share_of_a(&ten(1000, 100), policy, metric, in_flight);
                assert!(
                    (share - 52.6).abs() <= off,
                    "{policy:?} {metric:?}, {in_flight} in flight: {share} % of 52.6"
                );
            }
        }
    }
}

#[test]
fn lb_8_a_light_one_gets_no_more_than_its_share() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::PowerOfTwo] {
        for in_flight in [1, 5, 50, 400] {
            let share = share_of_a(&ten(10, 100), policy, Metric::Requests, in_flight);
            assert!(
                (0.5..=1.7).contains(&share),
                "{policy:?}, {in_flight} in flight: {share} % of 1.1"
            );
        }
    }
}

#[test]
fn lb_8_weights_of_99_to_1() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::PowerOfTwo] {
        for in_flight in [1, 5, 50, 400] {
            let share = share_of_a("a:w99 b:w1", policy, Metric::Requests, in_flight);
            assert!(
                (share - 99.0).abs() <= 1.0,
                "{policy:?}, {in_flight}: {share}"
            );
        }
    }
}

/// Nearly every draw of the heavy one is in vain.
#[test]
fn lb_8_shares_hold_among_those_that_are_left() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::PowerOfTwo] {
        let others = ten(300, 100);
        let text = format!("{others} x:w30000,cooling");
        let share = share_of_a(&text, policy, Metric::Requests, 1);
        assert!((share - 25.0).abs() <= 2.0, "{policy:?}: {share} % of 25");
        let share = share_of_a("a:w300 b:w100 x:w9000,cooling", policy, Metric::Requests, 1);
        assert!((share - 75.0).abs() <= 2.0, "{policy:?}: {share} % of 75");
    }
}

/// Where places are drawn in vain, one look at all finds both: each in turn by weight among those that are
/// left.
#[test]
fn lb_8_two_that_are_searched_for_are_two_draws_by_weight() {
    let drawing = Drawing::new("a:w100 x:w900,cooling b:w300 c:w600");
    let (gates, mut rng) = (drawing.view(), SplitMix64::new(5));
    let facts = drawing.facts(&gates);
    let candidates = facts.candidates(&drawing.cluster.all.weighted, Admit::Ready);
    let weight = |endpoint| candidates.weight(endpoint);
    let mut pairs = Shares::default();
    for _ in 0..REQUESTS {
        let (first, second) = candidates.search(None, &mut rng, weight).unwrap();
        pairs.add(drawing.id(first) + &drawing.id(second.unwrap()));
    }
    for (pair, percent) in [
        ("ab", 10.0 / 3.0),
        ("ac", 20.0 / 3.0),
        ("ba", 30.0 / 7.0),
        ("bc", 180.0 / 7.0),
        ("ca", 15.0),
        ("cb", 45.0),
    ] {
        let found = 100.0 * pairs.of(pair) as f64 / f64::from(REQUESTS);
        assert!(
            (found - percent).abs() < 1.0,
            "{pair}: {found} % of {percent}"
        );
    }
    let beside = Some(drawing.endpoint("c"));
    let (_, second) = candidates.search(beside, &mut rng, weight).unwrap();
    assert!(second.is_some());
    let drawing = Drawing::new("a:cooling b c:cooling");
    let gates = drawing.view();
    let facts = drawing.facts(&gates);
    let candidates = facts.candidates(&drawing.cluster.all.weighted, Admit::Ready);
    let found = candidates.search(None, &mut rng, |_| 1);
    assert_eq!(found, Some((drawing.endpoint("b"), None)));
    assert_eq!(
        candidates.search(Some(drawing.endpoint("b")), &mut rng, |_| 1),
        None
    );
}
