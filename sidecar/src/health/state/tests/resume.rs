//! What was known before, and for how long it holds.

use pointsman_filter::base::hash::backend_key;
use pointsman_filter::fleet::exchange::ClusterVerdicts;

use super::*;
use crate::model::event::Origin;

const OTHER: &str = "10.0.0.2:80";

fn two() -> Value {
    orders(json!([backend("a", ADDRESS), backend("b", OTHER)]))
}

fn resumed(backends: usize, origin: Origin) -> Event {
    Event::VerdictsResumed {
        cluster: "orders".into(),
        backends,
        origin,
    }
}

/// A proxy's word that these are unhealthy, by id and address.
fn handed(unhealthy: &[(&str, &str)]) -> Vec<ClusterVerdicts> {
    let keys = unhealthy
        .iter()
        .map(|(id, address)| backend_key(id, address));
    let orders = ClusterVerdicts {
        name: "orders".to_owned(),
        unhealthy: keys.collect(),
        healthy: Vec::new(),
    };
    let gone = ClusterVerdicts {
        name: "gone".to_owned(),
        ..orders.clone()
    };
    vec![gone, orders]
}

fn half() -> Event {
    Event::ClusterHalfHealthy {
        cluster: "orders".into(),
        healthy: 1,
        total: 2,
    }
}

#[test]
fn what_proxies_hand_back_holds_until_probes_have_decided() {
    let mut stage = Stage::new(vec![two()]);
    let version = stage.health.verdicts().version();
    let events = stage
        .health
        .take_back(handed(&[("a", ADDRESS), ("x", OTHER)]));
    stage.check_view();
    assert_eq!(events, [resumed(1, Origin::Proxies), half()]);
    assert_eq!(stage.told_unhealthy(), [backend_key("a", ADDRESS)]);
    let delta = stage.health.verdicts().answer(version).expect("news");
    assert!(!delta.full && delta.clusters[0].unhealthy.len() == 1);
    assert_eq!(stage.counts(), (1, 2, true));
    let again = stage.health.take_back(handed(&[("a", ADDRESS)]));
    assert_eq!(again, [], "the next proxy says the same");
    assert_eq!(stage.rounds(2, Outcome::Passed), []);
    assert_eq!(
        stage.rounds(1, Outcome::Passed),
        [up("a", Recovery::ProbesPass)]
    );
    let late = stage
        .health
        .take_back(handed(&[("a", ADDRESS), ("b", OTHER)]));
    assert_eq!(late, [], "probes have decided");
    assert_eq!(stage.unhealthy_keys(), 0);
}

#[test]
fn a_cluster_that_is_back_starts_from_the_verdicts_it_left_with() {
    for (away, known) in [(0, true), (29, true), (30, false)] {
        let mut stage = Stage::new(vec![one()]);
        stage.rounds(3, FAILED);
        stage.apply(vec![]);
        stage.now += seconds(away);
        let events = stage.apply(vec![two()]);
        if known {
            let expected = [resumed(1, Origin::Return), half()];
            assert_eq!(events, expected, "{away} s");
        }
        assert_eq!(stage.healthy(ADDRESS), !known, "{away} s");
        assert!(stage.healthy(OTHER));
        assert_eq!(stage.unhealthy_keys(), usize::from(known));
        stage.rounds(3, Outcome::Passed);
        assert_eq!(stage.unhealthy_keys(), 0);
    }
}

#[test]
fn who_left_alone_comes_back_as_new() {
    let mut stage = Stage::new(vec![two()]);
    stage.rounds(3, FAILED);
    stage.apply(vec![orders(json!([backend("b", OTHER)]))]);
    stage.apply(vec![two()]);
    assert!(stage.healthy(ADDRESS) && !stage.healthy(OTHER));
}

#[test]
fn what_is_remembered_of_clusters_that_left_is_bounded() {
    let mut left = Left::new(seconds(30));
    let keys = |count: u64| (0..count).map(BackendKey).collect::<BTreeSet<_>>();
    for number in 0..100 {
        left.remember(format!("c{number}").into(), keys(1000), seconds(0));
    }
    assert_eq!(left.recall("c64").len(), 1000);
    assert_eq!(left.recall("c65").len(), 0, "there was no room");
    left.remember("late".into(), keys(1), seconds(1));
    left.forget_old(seconds(30));
    assert_eq!((left.recall("c0").len(), left.recall("late").len()), (0, 1));
}
