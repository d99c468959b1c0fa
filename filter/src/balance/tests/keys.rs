//! Keys: Rendezvous and Maglev (LB-10 to LB-12).

use serde_json::{Value, json};

use super::super::route::{Decision, Facts, PickReason, Plan, Scope, route};
use crate::base::hash::{self, BackendKey};
use crate::base::random::SplitMix64;
use crate::cluster::Cluster;
use crate::cluster::load::Loads;
use crate::config::ClusterConfig;
use crate::gates::Gates;
use crate::gates::buckets::Buckets;
use crate::gates::view::GatesView;
use crate::testing::drawing::NOW;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

pub const POLICIES: [&str; 2] = ["Rendezvous", "Maglev"];

/// A cluster, with what is held against its backends.
pub struct Keyed {
    pub cluster: Cluster,
    pub gates: Gates,
}

impl Keyed {
    /// Backends by number, with their weights; what else the document says is in `balancing`.
    pub fn new(balancing: Value, backends: impl IntoIterator<Item = (u32, u16)>) -> Self {
        let backend = |(number, weight): (u32, u16)| {
            let address = format!("10.0.{}.{}:80", number >> 8, number & 255);
            json!({"id": number.to_string(), "address": address, "weight": weight})
        };
        let backends: Vec<Value> = backends.into_iter().map(backend).collect();
        Self::of(
            json!({"name": "orders", "loadBalancing": balancing, "backends": backends}),
            0,
        )
    }

    /// What a worker makes of a document; `seed` is the worker's own.
    pub fn of(document: Value, seed: u32) -> Self {
        let config = ClusterConfig::parse(&document).unwrap();
        Keyed {
            cluster: Cluster::compile(&config, &mut Loads::default(), NOW, seed),
            gates: Gates::default(),
        }
    }

    /// The sidecar finds a backend unhealthy, or well again.
    pub fn judge(&mut self, number: u32, unhealthy: bool) {
        let mut backends = self.cluster.backends.iter();
        let backend = backends.find(|backend| *backend.id == number.to_string());
        let key: BackendKey = backend.unwrap().key;
        self.gates.update(key, |gate| gate.judge(unhealthy, NOW));
    }

    fn decide_for(&self, key: u64, cookies: &[Vec<u8>], seed: u64) -> Decision {
        let gates = GatesView::new(&self.cluster, &self.gates);
        let facts = Facts {
            cluster: &self.cluster,
            gates: &gates,
            buckets: Buckets::read(&[], NOW),
            cookies,
            key,
            now: NOW,
        };
        let decision = route(&facts, &mut SplitMix64::new(seed));
        if let Decision::Forward(plan) = &decision {
            plan.commit(&facts);
        }
        decision
    }

    pub fn decide(&self, key: u64) -> Decision {
        self.decide_for(key, &[], 0)
    }

    /// What becomes of a request with these cookies; `seed` is its chance.
    pub fn plan_of(&self, key: u64, cookies: &[Vec<u8>], seed: u64) -> Plan {
        match self.decide_for(key, cookies, seed) {
            Decision::Forward(plan) => plan,
            refused => panic!("{refused:?}"),
        }
    }

    pub fn plan(&self, key: u64) -> Plan {
        self.plan_of(key, &[], 0)
    }

    pub fn numbers(&self, plan: &Plan) -> Vec<u32> {
        let number = |endpoint: &_| {
            let endpoint = self.cluster.endpoint(*endpoint).unwrap();
            let backend = self.cluster.backend(endpoint.backend).unwrap();
            backend.id.parse().unwrap()
        };
        plan.list.entries().iter().map(number).collect()
    }

    /// The numbers of a key's list, in one of its requests.
    pub fn list_drawn(&self, key: u64, request: u64) -> Vec<u32> {
        self.numbers(&self.plan_of(key, &[], request))
    }

    /// The numbers of a key's list, where chance has no say.
    pub fn list(&self, key: u64) -> Vec<u32> {
        self.list_drawn(key, 0)
    }

    pub fn home(&self, key: u64) -> u32 {
        self.list(key)[0]
    }

    /// The backends of keys.
    pub fn homes(&self, count: usize) -> Vec<u32> {
        keys(count).map(|key| self.home(key)).collect()
    }
}

/// Keys as clients have them.
pub fn keys(count: usize) -> impl Iterator<Item = u64> {
    (0..count).map(|user| hash::text_key(format!("user-{user}").as_bytes()))
}

fn even(policy: &str, count: u32) -> Keyed {
    Keyed::new(json!({"policy": policy}), (0..count).map(|i| (i, 100)))
}

/// Ten backends of which the last weighs ten times as much as the first.
fn ten(policy: &str) -> Keyed {
    Keyed::new(
        json!({"policy": policy}),
        (0..10).map(|i| (i, 100 * (i as u16 + 1))),
    )
}

#[test]
fn lb_10_11_a_key_has_one_backend_on_every_worker_whatever_the_order_of_the_backends() {
    for policy in POLICIES {
        let backend =
            |i: u32| json!({"id": i.to_string(), "address": format!("10.0.0.{i}:80"), "weight": i});
        let document = |backends: Vec<Value>| json!({"name": "orders", "loadBalancing": {"policy": policy}, "backends": backends});
        let here = Keyed::of(document((1..40).map(backend).collect()), 1);
        let there = Keyed::of(document((1..40).rev().map(backend).collect()), 7);
        for key in keys(2000) {
            assert_eq!(here.list(key), there.list(key), "{policy}");
            assert_eq!(here.list(key), here.list(key), "{policy}");
        }
    }
}

#[test]
fn lb_10_11_weights_are_shares_of_the_keys() {
    const KEYS: usize = 100_000;
    for policy in POLICIES {
        let mut counts = [0usize; 10];
        for home in ten(policy).homes(KEYS) {
            counts[home as usize] += 1;
        }
        for (place, count) in counts.iter().enumerate() {
            let (share, due) = (*count as f64 / KEYS as f64, (place + 1) as f64 / 55.0);
            assert!(
                (share - due).abs() < 0.005,
                "{policy} {place}: {share} of {due}"
            );
        }
    }
}

#[test]
fn lb_10_11_a_backend_that_is_down_moves_its_keys_alone_each_to_the_next_of_its_list() {
    for policy in POLICIES {
        for mut keyed in [even(policy, 10), even(policy, 200), ten(policy)] {
            let before: Vec<Vec<u32>> = keys(5000).map(|key| keyed.list(key)).collect();
            assert!(before.iter().all(|list| list.len() == 3));
            keyed.judge(7, true);
            for (key, before) in keys(5000).zip(&before) {
                let rest: Vec<u32> = before.iter().copied().filter(|it| *it != 7).collect();
                assert_eq!(keyed.list(key)[..rest.len()], rest[..], "{policy}");
            }
            keyed.judge(7, false);
            let after: Vec<Vec<u32>> = keys(5000).map(|key| keyed.list(key)).collect();
            assert_eq!(before, after, "{policy}: its keys return");
        }
    }
}

/// With most of a large cluster down, more slots are in vain than are looked at.
#[test]
fn lb_11_keys_stay_where_they_are_when_nearly_all_others_are_down() {
    let mut keyed = even("Maglev", 200);
    (0..198).for_each(|number| keyed.judge(number, true));
    let before = keyed.homes(3000);
    assert!(before.iter().all(|home| *home >= 198));
    (150..198).for_each(|number| keyed.judge(number, false));
    keyed.judge(199, true);
    for (before, after) in before.iter().zip(keyed.homes(3000)) {
        assert!(after == *before || after < 198 || *before == 199);
    }
}

#[test]
fn lb_10_one_that_comes_or_goes_or_grows_moves_its_own_keys_alone() {
    let weights = |i: u32| (i, 100 + 10 * i as u16);
    let rendezvous =
        |backends: Vec<(u32, u16)>| Keyed::new(json!({"policy": "Rendezvous"}), backends);
    let before = rendezvous((0..50).map(weights).collect()).homes(5000);
    let without = rendezvous((0..50).filter(|i| *i != 7).map(weights).collect()).homes(5000);
    let grown = rendezvous(
        (0..50)
            .map(|i| if i == 7 { (7, 1000) } else { weights(i) })
            .collect(),
    );
    let mut moved = 0;
    for ((before, without), grown) in before.iter().zip(without).zip(grown.homes(5000)) {
        assert_eq!(*before != 7, without == *before);
        assert!(grown == *before || grown == 7);
        moved += usize::from(grown != *before);
    }
    assert!((190..280).contains(&moved), "{moved}, 230 are due");
}

#[test]
fn lb_11_a_removal_moves_few_keys_of_others() {
    let before = even("Maglev", 100).homes(20_000);
    let without = Keyed::new(json!({"policy": "Maglev"}), (1..100).map(|i| (i, 100)));
    let moved = before.iter().zip(without.homes(20_000));
    let moved = moved.filter(|(before, after)| *before != after).count();
    assert!(
        (150..=2000).contains(&moved),
        "{moved} of 20,000, a hundredth is due"
    );
}

#[test]
fn lb_10_11_backups_have_a_ranking_of_their_own_and_fail_open_keeps_the_primaries() {
    for policy in POLICIES {
        let backend = |i: u32| json!({"id": i.to_string(), "address": format!("10.0.0.{i}:80"), "backup": i > 5});
        let document = |count| {
            let backends: Vec<Value> = (1..=count).map(backend).collect();
            json!({"name": "orders", "loadBalancing": {"policy": policy}, "backends": backends})
        };
        let mut keyed = Keyed::of(document(9), 0);
        let primaries = Keyed::of(document(5), 0).homes(300);
        assert_eq!(keyed.homes(300), primaries, "{policy}: backups take no key");
        (1..=5).for_each(|number| keyed.judge(number, true));
        let backups = keyed.homes(300);
        assert!((6..=9).all(|number| backups.contains(&number)), "{policy}");
        assert!(keys(300).all(|key| keyed.plan(key).reason == PickReason::Backup));
        let mut keyed = Keyed::of(document(5), 0);
        (1..=5).for_each(|number| keyed.judge(number, true));
        assert_eq!(keyed.homes(300), primaries, "{policy}: fail-open");
        assert_eq!(keyed.plan(1).scope, Scope::Cluster);
    }
}

#[test]
fn lb_4_10_11_weight_0_takes_no_key_while_another_has_weight() {
    for policy in POLICIES {
        let balancing = json!({"policy": policy});
        let keyed = Keyed::new(balancing.clone(), [(0, 0), (1, 1), (2, 100)]);
        assert!(keyed.homes(500).iter().all(|home| *home > 0), "{policy}");
        let mut drained = Keyed::new(balancing, [(0, 0), (1, 0), (2, 100)]);
        drained.judge(2, true);
        let homes = drained.homes(500);
        let zeros = homes.iter().filter(|home| **home == 0).count();
        assert!(
            (200..300).contains(&zeros) && !homes.contains(&2),
            "{policy}"
        );
    }
}
