//! Rules of the policies, LB-1 to LB-21.

use super::route::{Decision, route};
use crate::config::{Metric, Policy};
use crate::gates::view::GatesView;
use crate::testing::drawing::{Drawing, NOW, SECOND};
use crate::testing::shares::Shares;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod keys;
mod shards;
mod shares;
mod slow_start;
mod tiered;

const POLICIES: [Policy; 4] = [
    Policy::RoundRobin,
    Policy::Random,
    Policy::LeastLoaded,
    Policy::PowerOfTwo,
];

/// Picks with streams that never end: the load that a pick makes is there for the next one.
fn long_requests(drawing: &mut Drawing, requests: usize) -> Shares {
    let mut shares = drawing.shares(0);
    for _ in 0..requests {
        let pick = drawing.pick();
        drawing.load(&pick).begin();
        shares.add(pick);
    }
    shares
}

#[test]
fn lb_1_round_robin_goes_around_in_order() {
    let mut drawing = Drawing::new("a b c").policy(Policy::RoundRobin);
    assert_eq!(drawing.picks(7).concat(), "abcabca");
    drawing.shares(300).each("a b c", 100, 1);
}

#[test]
fn lb_1_the_neighbour_of_a_gated_one_has_no_double_share() {
    let mut drawing = Drawing::new("a b:cooling c d").policy(Policy::RoundRobin);
    drawing.shares(300).each("a c d", 100, 0);
}

#[test]
fn lb_1_looking_for_the_rest_of_a_list_takes_no_turn() {
    let mut drawing = Drawing::new("a b c d").policy(Policy::RoundRobin);
    assert_eq!(drawing.list().concat(), "abc");
    assert_eq!(drawing.list().concat(), "bcd");
    let mut drawing = Drawing::new("a:w5 b:w1 c:w1").policy(Policy::RoundRobin);
    assert_eq!(drawing.list().concat(), "abc");
}

#[test]
fn lb_2_smooth_weighted_round_robin() {
    let mut drawing = Drawing::new("a:w5 b:w1 c:w1").policy(Policy::RoundRobin);
    let order = drawing.picks(70).concat();
    assert_eq!(&order[..7], "aabacaa");
    assert!(!order.contains("aaaaa"), "{order}");
    let count = |id: char| order.chars().filter(|c| *c == id).count();
    assert_eq!((count('a'), count('b'), count('c')), (50, 10, 10));
}

#[test]
fn lb_2_a_new_weight_counts_at_once() {
    let mut drawing = Drawing::new("a:w60000 b:w30000").policy(Policy::RoundRobin);
    for _ in 0..2 {
        drawing.pick();
        drawing.redraw("a:w2 b:w1");
        let shares = drawing.shares(30);
        assert!((18..=22).contains(&shares.of("a")), "{shares:?}");
        drawing.redraw("a:w60000 b:w30000");
    }
}

#[test]
fn lb_2_the_rest_share_evenly_when_the_heaviest_is_gated() {
    let mut drawing = Drawing::new("a:w65535 b:w1 c:w2").policy(Policy::RoundRobin);
    drawing.shares(20_000);
    drawing.fail("a");
    let shares = drawing.shares(30);
    assert!((8..=12).contains(&shares.of("b")), "{shares:?}");
    assert_eq!(shares.of("a"), 0);
}

#[test]
fn lb_3_random_by_weight() {
    let shares = Drawing::new("a:w300 b:w100")
        .policy(Policy::Random)
        .shares(4000);
    assert!((2850..=3150).contains(&shares.of("a")), "{shares:?}");
    let mut zeros = Drawing::new("a:w0 b:w0").policy(Policy::Random);
    zeros.shares(4000).each("a b", 2000, 150);
}

#[test]
fn lb_3_random_by_weight_while_most_are_gated() {
    // The heaviest is gated, so nearly every draw is in vain.
    let text = "a:w60000,cooling b:w300 c:w100 d:w1000,unhealthy e:w50000,draining";
    let mut drawing = Drawing::new(text).policy(Policy::Random);
    let shares = drawing.shares(4000);
    assert!((2850..=3150).contains(&shares.of("b")), "{shares:?}");
    shares.each("b c", 2000, 1150);
}

#[test]
fn lb_4_weight_0_is_never_picked_beside_others() {
    for policy in POLICIES {
        let mut drawing = Drawing::new("a:w0 b:w100 c:w1").policy(policy);
        assert_eq!(long_requests(&mut drawing, 300).of("a"), 0, "{policy:?}");
        let mut zeros = Drawing::new("a:w0 b:w0").policy(policy);
        zeros.shares(1000).each("a b", 500, 80);
        let mut last = Drawing::new("a:w0 b:w100,unhealthy").policy(policy);
        assert_eq!(last.pick(), "a", "{policy:?}");
    }
}

#[test]
fn lb_5_least_loaded_avoids_the_busy() {
    for metric in [Metric::Requests, Metric::Connections] {
        let mut drawing = Drawing::new("a:busy10 b")
            .policy(Policy::LeastLoaded)
            .metric(metric);
        assert_eq!(
            long_requests(&mut drawing, 10).of("b"),
            10,
            "LB-6 too: {metric:?}"
        );
    }
}

#[test]
fn lb_5_load_is_per_unit_of_weight() {
    for policy in [Policy::LeastLoaded, Policy::PowerOfTwo] {
        let mut drawing = Drawing::new("a:w300 b:w100").policy(policy);
        let shares = long_requests(&mut drawing, 400);
        assert!(
            (298..=302).contains(&shares.of("a")),
            "{policy:?}: {shares:?}"
        );
    }
}

#[test]
fn lb_5_ties_are_spread_in_proportion_to_the_weights() {
    let mut idle = Drawing::new("a b c d").policy(Policy::LeastLoaded);
    idle.shares(1000).each("a b c d", 250, 70);
    let mut heavier = Drawing::new("a:w300 b:w100").policy(Policy::LeastLoaded);
    heavier.shares(4000).each("a b", 2000, 1150);
    let mut tied =
        Drawing::new("a:w300,busy4 b:w100,busy1 c:w100,busy2").policy(Policy::LeastLoaded);
    let shares = tied.shares(4000);
    assert!(
        (2850..=3150).contains(&shares.of("a")) && shares.of("c") == 0,
        "{shares:?}"
    );
}

#[test]
fn lb_5_the_tied_stand_in_lists_in_proportion_to_the_weights() {
    let mut drawing = Drawing::new("a:w300 b:w200 c:w100 d:busy1")
        .policy(Policy::LeastLoaded)
        .attempts(4);
    let lists: Vec<String> = (0..6000).map(|_| drawing.list().concat()).collect();
    // The first of three by weight, then the next of the two that are left.
    let odds = [
        ("abcd", 2000),
        ("acbd", 1000),
        ("bacd", 1500),
        ("bcad", 500),
        ("cabd", 600),
        ("cbad", 400),
    ];
    for (list, expected) in odds {
        let count = lists.iter().filter(|it| *it == list).count();
        assert!(count.abs_diff(expected) < 150, "{list}: {count}");
    }
}

/// A stalls once for a second, B never; each answer takes a millisecond of the clock.
#[test]
fn lb_7_and_9_a_stall_moves_traffic_away_and_is_forgotten() {
    for (policy, metric) in [
        (Policy::LeastLoaded, Metric::ConnectionTime),
        (Policy::PowerOfTwo, Metric::Latency),
    ] {
        let mut drawing = Drawing::new("a b").policy(policy).metric(metric);
        let run = |drawing: &mut Drawing, requests: usize| {
            let mut shares = drawing.shares(0);
            for _ in 0..requests {
                let pick = drawing.pick();
                drawing.now = drawing.now.plus(SECOND / 1000);
                drawing.load(&pick).observe(SECOND / 1000, drawing.now);
                shares.add(pick);
            }
            shares
        };
        run(&mut drawing, 10_000);
        drawing.load("a").observe(SECOND, drawing.now);
        assert!(
            run(&mut drawing, 3000).of("b") > 2700,
            "{policy:?}: the stall weighs"
        );
        run(&mut drawing, 5000);
        let shares = run(&mut drawing, 2000);
        assert!(shares.of("a") > 500, "{policy:?}: forgotten: {shares:?}");
    }
}

#[test]
fn lb_8_long_requests_spread_over_all() {
    let mut drawing = Drawing::new("a b c d");
    long_requests(&mut drawing, 1000).each("a b c d", 250, 100);
    let mut idle = Drawing::new("a b c d");
    idle.shares(1000).each("a b c d", 250, 70);
}

#[test]
fn lb_8_the_lighter_of_two_distinct_wins() {
    let mut drawing = Drawing::new("a:busy1 b:busy2 c:busy5");
    let shares = drawing.shares(3000);
    assert!(
        shares.of("a").abs_diff(2000) < 150,
        "two of three pairs: {shares:?}"
    );
    assert!(
        shares.of("b").abs_diff(1000) < 150,
        "one of three pairs: {shares:?}"
    );
    assert_eq!(shares.of("c"), 0, "c is the heavier of every pair");
    let mut gated =
        Drawing::new("a:busy1 b:busy2 c:busy5 d:cooling e:cooling f:unhealthy g:backup");
    let shares = gated.shares(3000);
    assert!(
        shares.of("a").abs_diff(2000) < 150 && shares.of("c") == 0,
        "{shares:?}"
    );
}

#[test]
fn lb_8_a_pick_costs_two_draws_however_many_there_are() {
    let mut drawing = Drawing::new("a").attempts(1).edit(|config| {
        let one = config.backends[0].clone();
        config.backends = (1..=10_000u16)
            .map(|port| {
                let mut backend = one.clone();
                backend.address.set_port(port);
                backend.id = port.to_string();
                backend
            })
            .collect();
        config.backends.iter_mut().for_each(|b| b.weight = 1);
    });
    (0..10_000)
        .step_by(2)
        .for_each(|e| drawing.cluster.endpoints[e].load.begin());
    let mut twin = drawing.rng.clone();
    drawing.route();
    let two_draws_more: Vec<u64> = (0..4).map(|_| twin.draw()).collect();
    assert!(
        two_draws_more[2..].contains(&drawing.rng.draw()),
        "two draws and at most a coin"
    );
}

#[test]
fn lb_16_weight_0_in_an_update_ends_new_picks_at_once() {
    for policy in POLICIES {
        let mut drawing = Drawing::new("a:busy2 b c").policy(policy);
        drawing.shares(10);
        drawing.redraw("a:w0 b c");
        let lists: Vec<String> = (0..100).flat_map(|_| drawing.list()).collect();
        assert!(
            !lists.contains(&"a".to_owned()),
            "{policy:?}: neither pick nor retry"
        );
        assert_eq!(drawing.load("a").in_flight(), 2, "running streams go on");
    }
}

#[test]
fn lb_18_ids_at_one_address_are_one_share() {
    for policy in POLICIES {
        let mut drawing = Drawing::new("a a2@a b").policy(policy);
        let shares = long_requests(&mut drawing, 1000);
        assert!(
            shares.of("a").abs_diff(500) < 80 && shares.of("a2") == 0,
            "{policy:?}: {shares:?}"
        );
    }
    let mut heavier = Drawing::new("a:w10 a2@a:w300 a3@a:w300 b").policy(Policy::Random);
    let shares = heavier.shares(4000);
    assert!(
        shares.of("a2").abs_diff(3000) < 150,
        "the heaviest, the earliest of equals: {shares:?}"
    );
}

#[test]
fn lb_20_a_new_policy_keeps_loads_and_gates() {
    let mut drawing = Drawing::new("a:busy9 b c").policy(Policy::RoundRobin);
    drawing.fail("b");
    let mut drawing = drawing.policy(Policy::LeastLoaded);
    assert_eq!(
        drawing.shares(100).of("c"),
        100,
        "a is busy, b is in back-off"
    );
    assert_eq!(drawing.tries("b"), 1);
}

#[test]
fn lb_21_workers_that_start_together_do_not_pick_together() {
    use crate::base::random::SplitMix64;
    use crate::cluster::Cluster;
    use crate::cluster::load::Loads;
    for (text, policy) in [
        ("a b c d", Policy::RoundRobin),
        ("a:w5 b:w4 c:w3 d:w2", Policy::RoundRobin),
        ("a b c d", Policy::Random),
        ("a b c d", Policy::PowerOfTwo),
    ] {
        let picks: Vec<String> = (0..8)
            .map(|worker| {
                let mut drawing = Drawing::new(text).policy(policy);
                let mut rng = SplitMix64::new(7);
                rng.stir(worker);
                let seed = rng.below(u32::MAX);
                drawing.loads = Loads::default();
                let cluster = Cluster::compile(&drawing.config, &mut drawing.loads, NOW, seed);
                drawing.cluster = std::rc::Rc::new(cluster);
                drawing.rng = rng;
                drawing.pick()
            })
            .collect();
        assert!(
            picks.iter().any(|pick| *pick != picks[0]),
            "{policy:?} of {text}: {picks:?}"
        );
    }
}

#[test]
fn lb_2_the_rest_of_a_list_is_whoever_would_be_picked_next() {
    let mut drawing = Drawing::new("a:w4 b:w3 c:w1").policy(Policy::RoundRobin);
    for _ in 0..50 {
        let list = drawing.list();
        let first = drawing.key(&list[0]);
        let mut without_first = drawing.gates.clone();
        without_first.judge(&[first], |_| false, drawing.now);
        let gates = GatesView::new(&drawing.cluster, &without_first);
        let next = route(&drawing.facts(&gates), &mut drawing.rng.clone());
        let Decision::Forward(plan) = next else {
            panic!("two are ready");
        };
        assert_eq!(drawing.id(plan.list.entries()[0]), list[1]);
    }
}

#[test]
fn a_decision_moves_nothing_until_it_is_committed() {
    for text in ["a b c", "a:w5 b:w5 c:w2"] {
        let mut drawing = Drawing::new(text).policy(Policy::RoundRobin);
        let decide =
            |drawing: &Drawing| route(&drawing.facts(&drawing.view()), &mut drawing.rng.clone());
        let first = decide(&drawing);
        assert_eq!(decide(&drawing), first);
        assert_eq!(drawing.route(), first);
        assert_ne!(decide(&drawing), first, "its turn was taken");
    }
}
