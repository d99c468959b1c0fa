//! Properties of limits, for any of them, however much was taken and whatever is held against backends.

use std::collections::BTreeMap;

use pointsman_filter::balance::limits::{Keep, Limit};
use pointsman_filter::balance::route::{Decision, Facts, PickReason, RefusalReason, route};
use pointsman_filter::base::hash::LoadKey;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::quota::Quota;
use pointsman_filter::cluster::{Cluster, EndpointIndex};
use pointsman_filter::config::{RateLimit, WhenAllUnhealthy};
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::gates::standing::Standing;
use pointsman_filter::gates::view::GatesView;
use proptest::prelude::*;

use super::runs;
use super::world::{NOW, a_world};

const SECOND: u64 = 1_000_000_000;

/// A backend's limits, and how often it was asked just now.
type Limits = (Option<(u32, u32)>, u32, u32);

fn a_limit() -> impl Strategy<Value = Limits> {
    let rate = (1u32..1000, 1u32..5);
    (prop::option::weighted(0.6, rate), 0u32..4, 0u32..12)
}

fn limit_of((per_second, burst): (u32, u32)) -> RateLimit {
    RateLimit { per_second, burst }
}

/// The record after every limited backend was asked so often.
fn spent(cluster: &Cluster, limits: &[Limits]) -> Vec<u8> {
    let mut record = Vec::new();
    for (backend, (.., asked)) in cluster.backends.iter().zip(limits) {
        let endpoint = cluster.endpoint(backend.endpoint).unwrap();
        for quota in endpoint
            .quota
            .iter()
            .flat_map(|it| vec![it; *asked as usize])
        {
            record = Buckets::read(&record, NOW).take(quota);
        }
    }
    record
}

proptest! {
    #![proptest_config(runs(2000))]

    #[test]
    fn rl_2_decisions_keep_to_limits(
        mut world in a_world(),
        limits in prop::collection::vec(a_limit(), 10),
    ) {
        for (backend, (rate, max, _)) in world.config.backends.iter_mut().zip(&limits) {
            (backend.rate_limit, backend.max_in_flight) = (rate.map(limit_of), *max);
        }
        let mut built = world.build();
        let record = spent(&built.cluster, &limits);
        let gates = GatesView::new(&built.cluster, &built.gates);
        let buckets = Buckets::read(&record, NOW);
        let cluster = &built.cluster;
        let facts = Facts { cluster, gates: &gates, buckets, cookies: world.cookies(), key: 0, now: NOW };
        let limit = |keep: Keep, e: EndpointIndex| keep.limit(cluster.endpoint(e).unwrap(), &buckets);
        let has_room = |e: &EndpointIndex| limit(Keep::Limits, *e).is_none();
        let decision = route(&facts, &mut built.rng);
        let view = match &decision {
            Decision::Forward(plan) if !plan.lifts_trials => gates,
            _ => gates.lifting_trials(),
        };
        let standing = |e: &EndpointIndex| view.standing(*e, NOW);
        let takes = || (0..cluster.endpoints.len()).map(EndpointIndex::of)
            .filter(|e| cluster.endpoint(*e).unwrap().normal);
        let ready = || takes().filter(|e| standing(e) == Standing::Ready);
        let open = || takes().filter(|e| standing(e) <= Standing::Unhealthy);
        let fails_open = world.config.when_all_unhealthy == WhenAllUnhealthy::FailOpen;
        match decision {
            Decision::Forward(plan) => {
                let entries = plan.list.entries();
                prop_assert!(has_room(&entries[0]), "the pick has room");
                let tail = || entries[1..].iter();
                prop_assert!(tail().is_sorted_by_key(|e| !has_room(e)), "those with room first");
                for entry in tail() {
                    prop_assert!(limit(Keep::Credit, *entry).is_none(), "nobody owes too much");
                }
                if plan.reason == PickReason::FailOpen {
                    prop_assert!(ready().next().is_none(), "for reasons of health alone");
                }
                if plan.deferred {
                    prop_assert!(open().any(|e| !has_room(&e)), "somebody had no room");
                }
                let kept = plan.keeps_cookie || plan.reason == PickReason::Sticky;
                prop_assert!(!(kept && plan.sticky_lost));
                let paid = plan.take_token(&facts);
                let quota = cluster.endpoint(entries[0]).unwrap().quota.as_deref();
                prop_assert_eq!(paid.is_some(), quota.is_some());
                if let (Some(paid), Some(quota)) = (paid, quota) {
                    let (before, after) = (buckets, Buckets::read(&paid, NOW));
                    let later = NOW.plus(quota.token_ns);
                    prop_assert_eq!(before.wait_ns(quota), 0);
                    prop_assert_eq!(Buckets::read(&paid, later).wait_ns(quota), 0);
                    for other in takes().filter(|e| *e != entries[0]) {
                        let quota = cluster.endpoint(other).unwrap().quota.as_deref();
                        prop_assert!(quota.is_none_or(|it| before.wait_ns(it) == after.wait_ns(it)));
                    }
                }
            }
            Decision::Refuse { reason: RefusalReason::AllLimited, retry_after_ns } => {
                let candidates: Vec<EndpointIndex> = match ready().next() {
                    Some(_) => ready().collect(),
                    None => open().collect(),
                };
                prop_assert!(!candidates.is_empty() && !candidates.iter().any(has_room));
                let limits = candidates.iter().map(|e| limit(Keep::Limits, *e).unwrap());
                let waits = limits.filter_map(|it| match it { Limit::Rate(ns) => Some(ns), _ => None });
                prop_assert_eq!(retry_after_ns, waits.min());
                if let Some(ns) = retry_after_ns {
                    let then = Buckets::read(&record, NOW.plus(ns));
                    let served = |e: &EndpointIndex| Keep::Limits.limit(cluster.endpoint(*e).unwrap(), &then);
                    prop_assert!(candidates.iter().any(|e| served(e).is_none()), "Retry-After is true");
                }
            }
            Decision::Refuse { .. } => {
                prop_assert!(ready().next().is_none());
                prop_assert!(!fails_open || open().next().is_none());
            }
        }
    }

    /// RL-1: in no stretch of time more than a burst and what has come meanwhile, whatever the workers'
    /// readings of the clock.
    #[test]
    fn rl_1_no_window_has_more_than_a_burst_and_the_rate(
        (per_second, burst) in (1u32..2000, 1u32..20),
        steps in prop::collection::vec((0u64..SECOND / 50, 0u64..3_000_000), 1..300),
    ) {
        let quota = Quota::new(LoadKey(1), limit_of((per_second, burst)));
        let (mut record, mut at, mut granted) = (Vec::new(), NOW, Vec::new());
        for (step, behind) in steps {
            at = at.plus(step);
            let reading = WallTime::from_ns(at.ns() - behind);
            let buckets = Buckets::read(&record, reading);
            if buckets.wait_ns(&quota) == 0 {
                record = buckets.take(&quota);
                granted.push(at);
            }
        }
        for (first, from) in granted.iter().enumerate() {
            for (last, to) in granted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u64;
                let come = (to.since(*from) + 3_000_000) / quota.token_ns;
                prop_assert!(count <= u64::from(burst) + come, "{} in {} ns", count, to.since(*from));
            }
        }
    }

    #[test]
    fn buckets_are_a_sorted_map(
        steps in prop::collection::vec((0u64..9, 1u32..4, 0u64..SECOND), 0..80),
    ) {
        let (mut record, mut at) = (Vec::new(), NOW);
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for (name, burst, step) in steps {
            at = at.plus(step);
            let quota = Quota::new(LoadKey(name), limit_of((2, burst)));
            record = Buckets::read(&record, at).take(&quota);
            let full_at = model.entry(quota.key.0).or_default();
            let most = at.ns() + 2 * quota.burst_ns;
            *full_at = ((*full_at).max(at.ns()) + quota.token_ns).min(most);
            for (name, burst) in (0..9).flat_map(|name| (1..4).map(move |burst| (name, burst))) {
                let quota = Quota::new(LoadKey(name), limit_of((2, burst)));
                let full_at = model.get(&quota.key.0).copied().unwrap_or(0).max(at.ns());
                let wait = (full_at + quota.token_ns).saturating_sub(at.ns() + quota.burst_ns);
                prop_assert_eq!(Buckets::read(&record, at).wait_ns(&quota), wait);
            }
        }
    }
}

/// Whatever stands in the record: no panic, and a token more is a record again.
#[test]
fn any_bytes_are_a_record() {
    let quota = Quota::new(LoadKey(1), limit_of((5, 10)));
    let run = |bytes: Vec<u8>| {
        let record = Buckets::read(&bytes, NOW).take(&quota);
        assert!(Buckets::read(&record, NOW).wait_ns(&quota) <= 20 * SECOND);
    };
    let mut record = Vec::new();
    for name in 0..5 {
        let quota = Quota::new(LoadKey(name), limit_of((5, 10)));
        record = Buckets::read(&record, NOW).take(&quota);
    }
    for place in 0..record.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = record.clone();
            bytes[place] = byte;
            run(bytes);
        }
        run(record[..place].to_vec());
        run(record[place..].to_vec());
    }
}
