//! Shuffle shards (LB-17), and the cookie that beats them (ST-8).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::explain::{Verdict, explain};
use super::super::route::{Decision, Facts, PickReason, RefusalReason, Scope};
use super::keys::{Keyed, keys};
use crate::base::random::SplitMix64;
use crate::gates::buckets::Buckets;
use crate::gates::view::GatesView;
use crate::testing::drawing::NOW;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const POLICIES: [&str; 6] = [
    "RoundRobin",
    "Random",
    "LeastLoaded",
    "PowerOfTwo",
    "Rendezvous",
    "Maglev",
];

/// Eight primaries, 0 to 7, of which two are a shard; and a backup, 8.
fn document(policy: &str, exhausted: &str) -> Value {
    let backend = |i: u32| json!({"id": i.to_string(), "address": format!("10.0.0.{}:80", i + 1), "backup": i > 7});
    json!({
        "name": "orders",
        "loadBalancing": {
            "policy": policy, "shuffleShard": {"percent": 25, "whenExhausted": exhausted},
        },
        "backends": (0..9).map(backend).collect::<Vec<Value>>(),
    })
}

fn eight(policy: &str, exhausted: &str) -> Keyed {
    Keyed::of(document(policy, exhausted), 0)
}

/// Everybody whom so many requests of a key reach; each list holds the shard alone.
fn reached(keyed: &Keyed, key: u64) -> BTreeSet<u32> {
    let mut reached = BTreeSet::new();
    for request in 0..40 {
        let list = keyed.list_drawn(key, request);
        reached.extend(list);
    }
    reached
}

#[test]
fn lb_17_a_key_reaches_its_shard_alone_under_every_policy() {
    let mut before = None;
    for policy in POLICIES {
        let keyed = eight(policy, "Spill");
        let shards: Vec<BTreeSet<u32>> = keys(50).map(|key| reached(&keyed, key)).collect();
        assert!(
            shards
                .iter()
                .all(|shard| shard.len() == 2 && !shard.contains(&8)),
            "{shards:?}"
        );
        let distinct: BTreeSet<&BTreeSet<u32>> = shards.iter().collect();
        assert!(distinct.len() > 15, "of 28 pairs: {}", distinct.len());
        // Who is in a shard does not depend on the policy.
        assert_eq!(*before.get_or_insert(shards.clone()), shards, "{policy}");
        assert!(keys(50).all(|key| keyed.plan(key).scope == Scope::Shard));
    }
}

#[test]
fn lb_17_few_primaries_are_not_sharded() {
    let mut few = document("Random", "Refuse");
    few["backends"].as_array_mut().unwrap().remove(0);
    let keyed = Keyed::of(few, 0);
    assert!(keyed.cluster.shards.is_none());
    assert_eq!(keyed.plan(1).scope, Scope::Cluster);
    assert_eq!(reached(&keyed, 1).len(), 7);
}

#[test]
fn lb_17_a_shard_never_leaks_while_one_of_it_can_serve() {
    for exhausted in ["Spill", "Refuse"] {
        for key in keys(30) {
            let mut keyed = eight("PowerOfTwo", exhausted);
            let shard: Vec<u32> = reached(&keyed, key).into_iter().collect();
            keyed.judge(shard[0], true);
            assert_eq!(reached(&keyed, key), BTreeSet::from([shard[1]]));
            assert!(keyed.plan(key).alone);
        }
    }
}

#[test]
fn lb_17_an_exhausted_shard_spills_or_refuses() {
    for key in keys(30) {
        let mut keyed = eight("PowerOfTwo", "Spill");
        let shard = reached(&keyed, key);
        shard.iter().for_each(|number| keyed.judge(*number, true));
        let plan = keyed.plan(key);
        assert_eq!(
            (plan.scope, plan.reason),
            (Scope::Spilled, PickReason::Primary)
        );
        assert!(reached(&keyed, key).is_disjoint(&shard));

        let mut keyed = eight("PowerOfTwo", "Refuse");
        shard.iter().for_each(|number| keyed.judge(*number, true));
        let refused = Decision::Refuse {
            reason: RefusalReason::ShardExhausted,
            retry_after_ns: None,
        };
        assert_eq!(keyed.decide(key), refused);
    }
}

#[test]
fn lb_17_when_no_primary_can_serve_the_backups_do_and_fail_open_stays_in_the_shard() {
    for exhausted in ["Spill", "Refuse"] {
        let key = 4711;
        let mut keyed = eight("Rendezvous", exhausted);
        let shard = reached(&keyed, key);
        (0..8).for_each(|number| keyed.judge(number, true));
        let plan = keyed.plan(key);
        assert_eq!(
            (plan.scope, plan.reason),
            (Scope::Cluster, PickReason::Backup)
        );
        keyed.judge(8, true);
        let plan = keyed.plan(key);
        assert_eq!(
            (plan.scope, plan.reason),
            (Scope::Shard, PickReason::FailOpen)
        );
        assert_eq!(reached(&keyed, key), shard);
    }
}

#[test]
fn lb_17_a_cordon_moves_nobody_to_a_shard_and_a_removal_one_to_each_of_its_own() {
    let all = eight("Random", "Spill");
    let mut cordoned = document("Random", "Spill");
    cordoned["backends"][3]["state"] = "Cordoned".into();
    let cordoned = Keyed::of(cordoned, 0);
    let mut removed = document("Random", "Spill");
    removed["backends"].as_array_mut().unwrap().remove(3);
    removed["loadBalancing"]["shuffleShard"]["minBackends"] = 7.into();
    let removed = Keyed::of(removed, 0);
    for key in keys(60) {
        let shard = reached(&all, key);
        let mut rest = shard.clone();
        rest.remove(&3);
        assert_eq!(reached(&cordoned, key), rest);
        let after = reached(&removed, key);
        assert!(
            after.len() == 2 && after.is_superset(&rest),
            "{shard:?} {after:?}"
        );
    }
}

#[test]
fn lb_17_backends_have_equal_parts_in_the_shards() {
    let keyed = eight("Random", "Spill");
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for (key, request) in keys(20_000).zip(0..) {
        *counts.entry(keyed.list_drawn(key, request)[0]).or_default() += 1;
    }
    // 1,024 shards are drawn: a part of 256 of them, give or take 14.
    let even = |count: &usize| (2000..3000).contains(count);
    assert!(counts.len() == 8 && counts.values().all(even), "{counts:?}");
}

#[test]
fn lb_17_explained() {
    let mut keyed = eight("Rendezvous", "Refuse");
    let key = 4711;
    let explained = |keyed: &Keyed| {
        let gates = GatesView::new(&keyed.cluster, &keyed.gates);
        let (cluster, cookies) = (&keyed.cluster, &[][..]);
        let facts = Facts {
            cluster,
            gates: &gates,
            buckets: Buckets::read(&[], NOW),
            cookies,
            key,
            now: NOW,
        };
        explain(&facts, &SplitMix64::new(1)).1
    };
    let list = keyed.list(key);
    for (number, verdict) in (0..).zip(explained(&keyed)) {
        let wanted = match list.iter().position(|listed| *listed == number) {
            Some(0) => Verdict::Chosen(PickReason::Primary),
            Some(place) => Verdict::Listed(place),
            None if number == 8 => Verdict::Backup,
            None => Verdict::OtherShard,
        };
        assert_eq!(verdict, wanted, "{number}");
    }
    list.iter().for_each(|number| keyed.judge(*number, true));
    let verdicts = explained(&keyed);
    let others = verdicts.iter().filter(|it| **it == Verdict::OtherShard);
    assert_eq!(others.count(), 6, "{verdicts:?}");
}

/// A request with a cookie that names this backend.
fn sticky(keyed: &Keyed, key: u64, named: u32) -> (Scope, PickReason, Vec<u32>) {
    let cookies = [named.to_string().into_bytes()];
    let plan = keyed.plan_of(key, &cookies, 0);
    (plan.scope, plan.reason, keyed.numbers(&plan))
}

#[test]
fn st_8_a_cookie_beats_keys_and_shards_and_the_shard_stands_behind_it() {
    for exhausted in ["Spill", "Refuse"] {
        let mut document = document("Rendezvous", exhausted);
        document["sticky"] = json!({"cookie": "P"});
        for key in keys(20) {
            let mut keyed = Keyed::of(document.clone(), 0);
            let shard = keyed.list(key);
            let other = (0..8).find(|number| !shard.contains(number)).unwrap();
            let (_, reason, list) = sticky(&keyed, key, other);
            assert_eq!(
                (reason, list),
                (PickReason::Sticky, vec![other, shard[0], shard[1]])
            );
            let (_, _, list) = sticky(&keyed, key, shard[1]);
            assert_eq!(list, [shard[1], shard[0]]);
            keyed.judge(shard[0], true);
            assert_eq!(
                sticky(&keyed, key, shard[1]).2,
                [shard[1]],
                "its shard can serve"
            );
            keyed.judge(shard[1], true);
            let (scope, _, list) = sticky(&keyed, key, other);
            let spills = exhausted == "Spill";
            assert_eq!(
                (scope == Scope::Cluster, list.len()),
                (spills, if spills { 3 } else { 1 })
            );
            keyed.judge(other, true);
            keyed.judge(shard[1], false);
            let (_, reason, list) = sticky(&keyed, key, other);
            assert_eq!(
                (reason, list),
                (PickReason::Primary, vec![shard[1]]),
                "{exhausted}"
            );
        }
    }
}
