//! Slow start: who comes, or comes back, has a part of its weight first.

use std::rc::Rc;

use super::POLICIES;
use crate::base::time::WallTime;
use crate::cluster::load::Loads;
use crate::cluster::snapshot::Snapshot;
use crate::config::Policy;
use crate::gates::{Gates, recovery};
use crate::testing::drawing::{Drawing, NOW, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Of so many requests the share of `a`, in percent.
fn percent_of_a(drawing: &mut Drawing) -> f64 {
    drawing.shares(10_000).of("a") as f64 / 100.0
}

#[test]
fn who_is_back_has_its_share_by_every_policy() {
    for policy in POLICIES {
        for (text, due) in [
            // Of ten seconds: 10 % from the start on, and a half after five.
            ("a:back0 b", 100.0 / 11.0),
            ("a:back5 b", 50.0 / 1.5),
            ("a:back8 b c", 80.0 / 2.8),
            ("a:back10 b", 50.0),
            ("a:back2,w50 b:back4", 10.0 / 0.5),
            ("a:back5,w0 b:w0", 50.0 / 1.5),
            // More than are looked through at once.
            ("a:back5 b c d e f g h i j k", 50.0 / 10.5),
            ("a:back5,w200 b c d e f g h i j k", 100.0 / 11.0),
        ] {
            let mut drawing = Drawing::new(text).policy(policy).slow_start(10);
            let share = percent_of_a(&mut drawing);
            assert!(
                (share - due).abs() < 2.0,
                "{policy:?}, {text}: {share} for {due}"
            );
        }
    }
}

#[test]
fn who_is_new_to_a_worker_grows_and_its_first_ones_do_not() {
    for policy in POLICIES {
        let mut drawing = Drawing::new("a b").policy(policy).slow_start(10);
        assert!(
            (percent_of_a(&mut drawing) - 50.0).abs() < 2.0,
            "{policy:?}"
        );
        let mut drawing = Drawing::new("b").policy(policy).slow_start(10);
        drawing.redraw("b a");
        assert!(
            (percent_of_a(&mut drawing) - 100.0 / 11.0).abs() < 2.0,
            "{policy:?}"
        );
        drawing.now = drawing.now.plus(5 * SECOND);
        drawing.redraw("b:w50 a:w50");
        let share = percent_of_a(&mut drawing);
        assert!(
            (share - 100.0 / 3.0).abs() < 2.0,
            "{policy:?}: AD-5, an edit keeps it: {share}"
        );
        drawing.now = drawing.now.plus(5 * SECOND);
        assert!(
            (percent_of_a(&mut drawing) - 50.0).abs() < 2.0,
            "{policy:?}"
        );
    }
}

#[test]
fn a_ramp_is_noted_with_the_verdict_and_forgotten_at_its_end() {
    for slow in [true, false] {
        let mut drawing = Drawing::new("a:unhealthy b c:unhealthy,waited");
        if slow {
            drawing = drawing.slow_start(10);
        }
        let (a, c) = (drawing.key("a"), drawing.key("c"));
        let (cluster, now) = (drawing.cluster.clone(), drawing.now);
        recovery::judge(&cluster, &mut drawing.gates, &[], |_| true, now);
        let recovered = |gates: &Gates, key| gates.of(key).map(|gate| gate.recovered_at);
        assert_eq!(recovered(&drawing.gates, a), slow.then_some(now));
        let counted = if slow { now } else { WallTime::default() };
        assert_eq!(recovered(&drawing.gates, c), Some(counted));
        drawing.now = now.plus(10 * SECOND - 1);
        assert_eq!(drawing.serve("c"), "backoff_closed");
        let left = recovered(&drawing.gates, c);
        assert_eq!(
            left,
            slow.then_some(now),
            "its failures alone are forgotten"
        );
        let window_ns = cluster.ramp.map_or(0, |ramp| ramp.window_ns);
        drawing.gates.prune(drawing.now, window_ns, true, |_| true);
        assert_eq!(recovered(&drawing.gates, a), slow.then_some(now));
        let over = now.plus(10 * SECOND);
        drawing.gates.prune(over, window_ns, true, |_| true);
        assert!(drawing.gates.encode().is_empty(), "invariant 7");
    }
}

#[test]
fn who_answers_after_all_its_tries_had_failed_is_back() {
    let mut drawing = Drawing::new("a:down b:waited").slow_start(10);
    drawing.serve("b");
    assert_eq!(
        drawing.gates.of(drawing.key("b")),
        None,
        "a few failures are none"
    );
    assert_eq!(drawing.serve("a"), "backoff_closed backend_up");
    let gate = drawing.gates.of(drawing.key("a")).unwrap();
    assert_eq!(gate.recovered_at, drawing.now);
    let mut drawing = Drawing::new("a:down b");
    drawing.serve("a");
    assert!(drawing.gates.encode().is_empty(), "nobody asks");
}

#[test]
fn a_clock_that_steps_ends_a_ramp() {
    let mut drawing = Drawing::new("a:back1 b")
        .policy(Policy::RoundRobin)
        .slow_start(10);
    drawing.now = WallTime::from_ns(drawing.now.ns() - 3600 * SECOND);
    assert!((percent_of_a(&mut drawing) - 50.0).abs() < 2.0);
}

#[test]
fn only_a_worker_that_has_had_clusters_meets_new_ones() {
    let mut loads = Loads::default();
    let json = |address: &str| {
        let cluster = format!(r#"{{"name":"a","backends":[{{"address":"{address}"}}]}}"#);
        format!(r#"{{"schema":1,"clusters":[{cluster}]}}"#)
    };
    let empty = Snapshot::compile(b"", &[], &mut loads, NOW, 0).unwrap();
    let mut compile = |address, living: &[Rc<Snapshot>]| {
        let snapshot = Snapshot::compile(json(address).as_bytes(), living, &mut loads, NOW, 0);
        Rc::new(snapshot.unwrap())
    };
    let since = |snapshot: &Snapshot| snapshot.clusters()[0].endpoints[0].load.known_since;
    let first = compile("10.0.0.1:1", &[Rc::new(empty)]);
    assert_eq!(since(&first), WallTime::default());
    let second = compile("10.0.0.2:1", &[first]);
    assert_eq!(since(&second), NOW);
    let third = compile("10.0.0.1:1", &[second]);
    assert_eq!(since(&third), WallTime::default(), "known all along");
}

#[test]
fn nobody_pays_for_a_ramp_that_is_over() {
    let mut drawing = Drawing::new("a").slow_start(10);
    drawing.redraw("a b");
    let ramps = |nobody_is_gated, after_ns| {
        let now = NOW.plus(after_ns);
        drawing.cluster.ramp_now(nobody_is_gated, now).is_some()
    };
    assert!(ramps(true, 10 * SECOND - 1) && !ramps(true, 10 * SECOND));
    assert!(ramps(false, 10 * SECOND), "somebody may be back");
}

#[test]
fn a_verdict_against_a_backend_ends_its_ramp() {
    let mut drawing = Drawing::new("a:back1 b").slow_start(10);
    let (cluster, a) = (drawing.cluster.clone(), drawing.key("a"));
    recovery::judge(&cluster, &mut drawing.gates, &[a], |_| false, NOW);
    let gate = drawing.gates.of(a).unwrap();
    assert!(gate.unhealthy && gate.recovered_at == WallTime::default());
}
