//! A request's entry: which endpoints, in which order, or why none.

use crate::balance::list::List;
use crate::balance::select::{self, Field, Turn};
use crate::base::random::SplitMix64;
use crate::cluster::Cluster;
use crate::cluster::pool::{Group, Pool};
use crate::config::WhenAllUnhealthy;
use crate::gates::standing::{Admission, Marks, Standing};

/// Everything a decision depends on, but for the randomness.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request's cluster.
    pub cluster: &'a Cluster,
    /// What is held against its endpoints.
    pub marks: &'a Marks,
    /// What the client's sticky cookie says, in a sticky cluster.
    pub sticky: Option<&'a [u8]>,
    /// Wall clock.
    pub now_ns: u64,
}

/// Why the first of a list is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickReason {
    /// The policy picked it among the primaries.
    Primary,
    /// The policy picked it among the backups: no primary can serve (GT-4).
    Backup,
    /// The client's cookie names it (ST-2).
    Sticky,
    /// Nobody is healthy; it was picked regardless (GT-5).
    FailOpen,
}

/// Where a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Distinct endpoints in the order in which they are tried; at least one.
    pub list: List,
    /// Why the first is the first.
    pub reason: PickReason,
    /// The client's cookie named nobody who may be picked (ST-3).
    pub sticky_lost: bool,
    /// The only eligible endpoint; the cluster grants more attempts, so it may stand twice, for
    /// resets alone (RT-7, RT-9).
    pub alone: bool,
}

/// Why a request finds no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The cluster has no backend that takes requests.
    NoBackends,
    /// Nobody is healthy, and the cluster refuses rather than fails open (GT-8).
    AllUnhealthy,
    /// Everybody is inside a back-off window (GT-6).
    AllBackingOff,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is sent along a list.
    Forward(Plan),
    /// It is answered here.
    Refuse {
        /// Why.
        reason: RefusalReason,
        /// The soonest end of a back-off, from now, nanoseconds.
        retry_after_ns: Option<u64>,
    },
}

/// Decides: the cookie's backend if it may be picked, else the policy's choice among primaries,
/// else among backups, else, where the cluster fails open, among the unhealthy.
pub fn route(facts: &Facts<'_>, rng: &mut SplitMix64) -> Decision {
    let sticky = facts.sticky.and_then(|value| sticky_endpoint(facts, value));
    let sticky_lost = facts.sticky.is_some() && sticky.is_none();
    if let Some(endpoint) = sticky {
        return forward(facts, endpoint, PickReason::Sticky, false, rng);
    }
    let cluster = facts.cluster;
    for (group, reason) in [
        (&cluster.primaries, PickReason::Primary),
        (&cluster.backups, PickReason::Backup),
    ] {
        if let Some(endpoint) = pick_in(facts, group, Admission::Ready, rng) {
            return forward(facts, endpoint, reason, sticky_lost, rng);
        }
    }
    if cluster.when_all_unhealthy == WhenAllUnhealthy::FailOpen
        && let Some(endpoint) = pick_in(facts, &cluster.all, Admission::FailOpen, rng)
    {
        return forward(facts, endpoint, PickReason::FailOpen, sticky_lost, rng);
    }
    refuse(facts)
}

/// Whether anybody can serve without failing open; the end of that regime.
pub fn any_ready(cluster: &Cluster, marks: &Marks, now_ns: u64) -> bool {
    let facts = Facts {
        cluster,
        marks,
        sticky: None,
        now_ns,
    };
    pools(&cluster.all)
        .into_iter()
        .any(|pool| select::any_open(&facts.field(pool, Admission::Ready)))
}

impl<'a> Facts<'a> {
    fn field(&self, pool: &'a Pool, admission: Admission) -> Field<'a> {
        let Facts {
            cluster,
            marks,
            now_ns,
            ..
        } = *self;
        Field {
            cluster,
            pool,
            marks,
            admission,
            taken: &[],
            now_ns,
        }
    }
}

fn pools(group: &Group) -> [&Pool; 2] {
    [&group.weighted, &group.weightless]
}

/// Weight 0 is picked only where nobody with a weight may be (LB-4).
fn pick_in(
    facts: &Facts<'_>,
    group: &Group,
    admission: Admission,
    rng: &mut SplitMix64,
) -> Option<u32> {
    let mut pick = |pool| select::pick(&facts.field(pool, admission), Turn::Take, rng);
    pick(&group.weighted).or_else(|| pick(&group.weightless))
}

/// The first endpoint in the registry's order that the cookie names and that can serve; that it is
/// a backup does not matter (ST-10).
fn sticky_endpoint(facts: &Facts<'_>, value: &[u8]) -> Option<u32> {
    let named = facts
        .cluster
        .backends_by_sticky_value(value)
        .filter(|backend| backend.normal);
    named
        .map(|backend| backend.endpoint)
        .find(|endpoint| facts.marks.standing(*endpoint, facts.now_ns) == Standing::Ready)
}

/// Makes the list: the pick, then the next best of its tier, then of the backups.
fn forward(
    facts: &Facts<'_>,
    first: u32,
    reason: PickReason,
    sticky_lost: bool,
    rng: &mut SplitMix64,
) -> Decision {
    let cluster = facts.cluster;
    let attempts = cluster.retry.attempts;
    let mut list = List::default();
    list.push(first);
    let (tiers, admission) = match reason {
        PickReason::FailOpen => ([Some(&cluster.all), None], Admission::FailOpen),
        _ => (
            [Some(&cluster.primaries), Some(&cluster.backups)],
            Admission::Ready,
        ),
    };
    // Weight 0 stands in a list only when the pick itself has none: it is a drain to many. Even then
    // it follows those of its tier that have weight.
    let weightless = cluster
        .endpoint(first)
        .is_some_and(|endpoint| endpoint.weight == 0);
    for group in tiers.into_iter().flatten() {
        let before = list.len();
        select::extend(&mut list, &facts.field(&group.weighted, admission), rng);
        if weightless && list.len() == before {
            select::extend(&mut list, &facts.field(&group.weightless, admission), rng);
        }
    }
    let alone = list.len() == 1 && attempts > 1;
    Decision::Forward(Plan {
        list,
        reason,
        sticky_lost,
        alone,
    })
}

fn refuse(facts: &Facts<'_>) -> Decision {
    let members = pools(&facts.cluster.all)
        .into_iter()
        .flat_map(Pool::members);
    let mut anybody = false;
    let mut unhealthy = false;
    let mut soonest: Option<u64> = None;
    for endpoint in members {
        anybody = true;
        match facts.marks.standing(*endpoint, facts.now_ns) {
            Standing::BackingOff => {
                let left = facts.marks.wait_ns(*endpoint, facts.now_ns);
                soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
            }
            Standing::Unhealthy | Standing::Ready => unhealthy = true,
        }
    }
    let reason = match (anybody, unhealthy) {
        (false, _) => RefusalReason::NoBackends,
        (true, true) => RefusalReason::AllUnhealthy,
        (true, false) => RefusalReason::AllBackingOff,
    };
    Decision::Refuse {
        reason,
        retry_after_ns: soonest,
    }
}

#[cfg(test)]
mod tests;
