//! Properties of the routing core, for any cluster, gates, loads, cookies and observations.

// proptest's randomness does not build for wasm32.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "properties/limits.rs"]
mod limits;
#[path = "properties/taken_over.rs"]
mod taken_over;
#[path = "properties/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use pointsman_filter::balance::route::{Decision, PickReason, Plan, RefusalReason};
use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::EndpointIndex;
use pointsman_filter::config::{Code, Policy, WhenAllUnhealthy};
use pointsman_filter::fleet::regimes::tidy;
use pointsman_filter::gates::availability::is_last;
use pointsman_filter::gates::evidence::{Evidence, Met, Status};
use pointsman_filter::gates::standing::Standing;
use pointsman_filter::gates::transition::GateChange;
use pointsman_filter::gates::view::GatesView;
use pointsman_filter::gates::{Gate, Gates};
use pointsman_filter::stream::attempts::{Answer, Ending, judge};
use proptest::prelude::*;
use proptest::sample::select;
use world::{Built, Known, NOW, World, a_time, a_world};

/// Checks a list against the addresses: who stands in it, and how many.
fn check_list(world: &World, built: &Built, plan: &Plan) -> Result<(), TestCaseError> {
    let known = world.addresses();
    let address = |e: &EndpointIndex| built.cluster.endpoint(*e).unwrap().address.to_string();
    let listed: Vec<String> = plan.list.entries().iter().map(address).collect();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    prop_assert_eq!(distinct.len(), listed.len(), "twice: {:?}", listed);
    let failing_open = plan.reason == PickReason::FailOpen;
    let open = |known: &&Known| match known.standing {
        Standing::Ready => true,
        Standing::Unhealthy => failing_open,
        Standing::BackingOff | Standing::CoolingDown | Standing::OnTrial => false,
    };
    for address in &listed {
        let known = known.get(address);
        prop_assert!(known.is_some(), "{} takes no requests", address);
        prop_assert!(known.filter(open).is_some(), "{}: {:?}", address, known);
    }
    let first = known[&listed[0]];
    let tier = |backup: bool| {
        let tier = known
            .values()
            .filter(move |k| failing_open || k.backup == backup);
        tier.filter(open)
    };
    let weighted = |backup: bool| tier(backup).filter(|k| k.weight > 0).count();
    if plan.reason != PickReason::Sticky {
        prop_assert!(first.weight > 0 || weighted(first.backup) == 0, "LB-4");
    }
    let tiers: &[bool] = if failing_open {
        &[false]
    } else {
        &[false, true]
    };
    let mut eligible = 0;
    for backup in tiers {
        eligible += match (first.weight, weighted(*backup)) {
            (0, 0) => tier(*backup).count(),
            // A sticky one without weight, though others of its tier have some.
            (0, others) => others + usize::from(first.backup == *backup),
            (_, others) => others,
        };
    }
    let attempts = built.cluster.retry.attempts;
    prop_assert_eq!(listed.len(), eligible.min(attempts));
    prop_assert_eq!(plan.alone, eligible == 1 && attempts > 1);
    Ok(())
}

/// So many cases; a failing one is printed, and not kept in a file.
fn runs(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(runs(2000))]

    #[test]
    fn decisions_follow_the_rules(world in a_world()) {
        let mut built = world.build();
        let (known, lifted) = (world.addresses(), world.lifting_trials());
        let fails_open = world.config.when_all_unhealthy == WhenAllUnhealthy::FailOpen;
        let any = |known: &BTreeMap<String, Known>, wanted| known.values().any(|k| k.standing == wanted);
        let lifts = !any(&known, Standing::Ready)
            && any(&known, Standing::OnTrial)
            && (any(&lifted.addresses(), Standing::Ready) || !fails_open || !any(&known, Standing::Unhealthy));
        let decision = world.decide(&mut built);
        let world = if lifts { lifted } else { world };
        let known = world.addresses();
        let has = |wanted: Standing| any(&known, wanted);
        let ready = |backup: bool| {
            known.values().any(|k| k.backup == backup && k.standing == Standing::Ready)
        };
        let named = world.cookies().iter().find_map(|value| world.config.backends.iter().find(|b| {
            let says = b.sticky_value().as_bytes() == value;
            says && world.takes(b) && world.standing(b) == Standing::Ready
        }));
        match decision {
            Decision::Forward(plan) => {
                prop_assert_eq!(plan.lifts_trials, lifts);
                check_list(&world, &built, &plan)?;
                let reason = match (named.is_some(), ready(false), ready(true)) {
                    (true, ..) => PickReason::Sticky,
                    (_, true, _) => PickReason::Primary,
                    (.., true) => PickReason::Backup,
                    _ => PickReason::FailOpen,
                };
                prop_assert_eq!(plan.reason, reason);
                prop_assert!(reason != PickReason::FailOpen || fails_open);
                prop_assert_eq!(plan.sticky_lost, !world.cookies().is_empty() && named.is_none());
                let first = built.cluster.endpoint(plan.list.first().unwrap()).unwrap();
                if let Some(named) = named {
                    prop_assert_eq!(&*first.address, named.address.to_string());
                }
            }
            Decision::Refuse { reason, retry_after_ns } => {
                prop_assert!(!ready(false) && !ready(true));
                let expected = match (known.is_empty(), has(Standing::Unhealthy)) {
                    (true, _) => RefusalReason::NoBackends,
                    (_, true) => RefusalReason::AllUnhealthy,
                    _ if has(Standing::BackingOff) => RefusalReason::AllBackingOff,
                    _ => RefusalReason::AllCoolingDown,
                };
                prop_assert_eq!(reason, expected);
                prop_assert!(!has(Standing::Unhealthy) || !fails_open);
                let waits = has(Standing::BackingOff) || has(Standing::CoolingDown);
                prop_assert_eq!(retry_after_ns.is_some(), waits);
                prop_assert_ne!(retry_after_ns, Some(0));
            }
        }
    }

    #[test]
    fn gt_3_a_trial_holds_one_back_from_all_others(world in a_world()) {
        let mut built = world.build();
        let Decision::Forward(plan) = world.decide(&mut built) else { return Ok(()) };
        let Built { cluster, gates, .. } = &built;
        let view = GatesView::new(cluster, gates);
        let awaits = |e: &EndpointIndex| view.may_await_trial() && view.awaits_trial(*e, NOW);
        prop_assert!(plan.list.entries()[1..].is_sorted_by_key(awaits), "they stand last");
        let first = plan.list.first().unwrap();
        let facts = world.facts(cluster, &view);
        let record = plan.begin_trial(&facts, &gates.encode());
        let Some(record) = record else {
            let last = is_last(cluster, gates, first, NOW);
            let bound = cluster.keys_at(first).any(|key| gates.of(key).is_some_and(|gate| gate.ejected));
            prop_assert!(!awaits(&first) || plan.lifts_trials || last || bound);
            return Ok(());
        };
        prop_assert!(awaits(&first) && cluster.backoff.half_open);
        let after = GatesView::read(cluster, &record);
        let endpoints = (0..cluster.endpoints.len()).map(EndpointIndex::of);
        for endpoint in endpoints {
            let expected = match endpoint == first {
                true => Standing::OnTrial,
                false => view.standing(endpoint, NOW),
            };
            prop_assert_eq!(after.standing(endpoint, NOW), expected);
        }
        built.gates = Gates::decode(&record);
        let Decision::Forward(next) = world.decide(&mut built) else {
            return Err(TestCaseError::fail("somebody was left"));
        };
        prop_assert!(next.lifts_trials || !next.list.entries().contains(&first));
    }

    #[test]
    fn one_seed_one_day(world in a_world()) {
        let day = || {
            let mut built = world.build();
            (0..20).map(|_| world.decide(&mut built)).collect::<Vec<Decision>>()
        };
        prop_assert_eq!(day(), day());
    }

    #[test]
    fn a_view_of_a_blob_is_that_of_the_gates(world in a_world()) {
        let Built { cluster, gates, .. } = world.build();
        let blob = gates.encode();
        prop_assert_eq!(&Gates::decode(&blob), &gates);
        let view = GatesView::read(&cluster, &blob);
        let backends = cluster.backends.iter().zip(&world.config.backends);
        for (backend, document) in backends {
            let standing = view.standing(backend.endpoint, NOW);
            prop_assert_eq!(standing, world.standing(document));
            let waits = view.wait_ns(backend.endpoint, NOW) > 0;
            prop_assert_eq!(waits, standing >= Standing::OnTrial);
        }
    }

    #[test]
    fn an_outcome_blames_only_its_list_and_applies_once(
        world in a_world(),
        served in 0usize..12,
        attempts in 0usize..12,
        ending in select(vec![Ending::Answered, Ending::ConnectFailed, Ending::Unanswered, Ending::Abandoned]),
        (transport_only, asked_ns) in any::<(bool, Option<Option<u64>>)>(),
        picked_at in a_time(),
    ) {
        let Built { cluster, mut gates, mut rng } = world.build();
        let decision = world.decide(&mut world.build());
        let Decision::Forward(plan) = decision else { return Ok(()) };
        let address = cluster.endpoints.get(served).map(|e| e.address.as_bytes().to_vec());
        let status = asked_ns.map(|asked_ns| Status { code: Code::http(429), asked_ns });
        let answer = Answer { address, attempts, ending, connection_time_ns: None, status };
        let outcome = judge(&cluster, &plan.list, transport_only, &answer);
        let evidence: Vec<Evidence> = outcome.evidence().collect();
        let endpoints: BTreeSet<EndpointIndex> = evidence.iter().map(|met| met.endpoint).collect();
        prop_assert_eq!(endpoints.len(), evidence.len(), "evidence for an endpoint counts once");
        prop_assert!(endpoints.iter().all(|endpoint| plan.list.entries().contains(endpoint)));
        let change = GateChange { evidence, picked_at, now: NOW };
        change.apply(&cluster, &mut gates, &mut rng);
        let view = GatesView::new(&cluster, &gates);
        for failed in change.evidence.iter().filter(|met| !met.what.is_answer()) {
            let gated = view.standing(failed.endpoint, NOW) == Standing::BackingOff;
            let last = failed.what == Met::Unknown && is_last(&cluster, &gates, failed.endpoint, NOW);
            let mut held = cluster.keys_at(failed.endpoint).filter_map(|key| gates.of(key));
            prop_assert!(gated || last || held.any(|gate| gate.failed_at >= picked_at));
        }
        let after = gates.clone();
        prop_assert_eq!(change.apply(&cluster, &mut gates, &mut rng), vec![]);
        prop_assert_eq!(&gates, &after);
        tidy(&cluster, &mut gates, true, NOW);
        prop_assert_eq!(tidy(&cluster, &mut gates, true, NOW), vec![]);
    }

    #[test]
    fn gates_are_a_sorted_map(
        steps in prop::collection::vec((0u64..9, 0u8..3, any::<bool>(), a_time()), 0..60),
    ) {
        let mut gates = Gates::default();
        let mut model: BTreeMap<BackendKey, Gate> = BTreeMap::new();
        for (key, tries, unhealthy, at) in steps {
            let (key, next) = (BackendKey(key), BackendKey(key + 1));
            let held = Gate { key, tries, down: tries == 2, unhealthy, failed_at: at, until: at, unhealthy_since: if unhealthy { at } else { WallTime::default() }, ..Gate::open(key) };
            gates.update(key, |gate| *gate = held);
            model.insert(key, held);
            if tries == 0 {
                gates.judge(&[next], |healthy| healthy == key, NOW);
                model.entry(next).or_insert(Gate::open(next)).judge(true, NOW);
                model.entry(key).or_insert(Gate::open(key)).judge(false, NOW);
            }
            model.retain(|_, gate| gate.tries > 0 || gate.unhealthy);
            prop_assert!(gates.entries().iter().eq(model.values().copied()));
            prop_assert_eq!(gates.of(key), model.get(&key).copied());
            prop_assert_eq!(gates.encode().is_empty(), model.is_empty());
        }
    }

    #[test]
    fn lb_2_a_round_gives_everybody_exactly_its_weight(
        weights in prop::collection::vec(1u16..40, 1..8),
        seed in any::<u64>(),
    ) {
        let mut config = world::empty(false);
        config.load_balancing.policy = Policy::RoundRobin;
        let places = weights.iter().enumerate();
        config.backends = places.map(|(i, w)| world::backend(i, i as u8 + 1, *w)).collect();
        let world = World { config, gates: vec![], loads: vec![], cookies: vec![], seed };
        let mut built = world.build();
        let mut picked = vec![0u16; weights.len()];
        for _ in 0..weights.iter().sum::<u16>() {
            let Decision::Forward(plan) = world.decide(&mut built) else { panic!("all ready") };
            picked[plan.list.first().unwrap().place()] += 1;
        }
        prop_assert_eq!(picked, weights);
    }
}
