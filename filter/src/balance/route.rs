//! A request's entry: which endpoints, in which order, or why none.

use super::list::List;
use super::select::{self, Candidates, Turn};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::pool::Pool;
use crate::cluster::tier::Tier;
use crate::config::WhenAllUnhealthy;
use crate::gates::standing::{Admit, Standing};
use crate::gates::view::GatesView;

/// Everything a decision depends on, but for the randomness.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request's cluster.
    pub cluster: &'a Cluster,
    /// What is held against its endpoints.
    pub gates: &'a GatesView,
    /// What the client's sticky cookie says, in a sticky cluster.
    pub sticky: Option<&'a [u8]>,
    /// Wall clock.
    pub now: WallTime,
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

impl PickReason {
    /// Its name, in the counter of picks.
    pub fn name(self) -> &'static str {
        match self {
            PickReason::Primary => "primary",
            PickReason::Backup => "backup",
            PickReason::Sticky => "sticky",
            PickReason::FailOpen => "fail_open",
        }
    }
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

impl RefusalReason {
    /// Its name, in the answer's body and in the counter of refusals.
    pub fn name(self) -> &'static str {
        match self {
            RefusalReason::NoBackends => "no_backends",
            RefusalReason::AllUnhealthy => "all_unhealthy",
            RefusalReason::AllBackingOff => "all_backing_off",
        }
    }
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
    for (tier, reason) in [
        (&cluster.primaries, PickReason::Primary),
        (&cluster.backups, PickReason::Backup),
    ] {
        if let Some(endpoint) = pick_in(facts, tier, Admit::Ready, rng) {
            return forward(facts, endpoint, reason, sticky_lost, rng);
        }
    }
    if cluster.when_all_unhealthy == WhenAllUnhealthy::FailOpen
        && let Some(endpoint) = pick_in(facts, &cluster.all, Admit::FailOpen, rng)
    {
        return forward(facts, endpoint, PickReason::FailOpen, sticky_lost, rng);
    }
    refuse(facts)
}

/// Whether anybody can serve without failing open; the end of that regime.
pub fn any_ready(cluster: &Cluster, gates: &GatesView, now: WallTime) -> bool {
    let facts = Facts {
        cluster,
        gates,
        sticky: None,
        now,
    };
    pools(&cluster.all)
        .into_iter()
        .any(|pool| select::any_eligible(&facts.candidates(pool, Admit::Ready)))
}

impl<'a> Facts<'a> {
    fn candidates(&self, pool: &'a Pool, admit: Admit) -> Candidates<'a> {
        let Facts {
            cluster,
            gates,
            now,
            ..
        } = *self;
        Candidates {
            cluster,
            pool,
            gates,
            admit,
            taken: &[],
            now,
        }
    }
}

fn pools(tier: &Tier) -> [&Pool; 2] {
    [&tier.weighted, &tier.weightless]
}

/// Weight 0 is picked only where nobody with a weight may be (LB-4).
fn pick_in(facts: &Facts<'_>, tier: &Tier, admit: Admit, rng: &mut SplitMix64) -> Option<u32> {
    let mut pick = |pool| select::pick(&facts.candidates(pool, admit), Turn::Take, rng);
    pick(&tier.weighted).or_else(|| pick(&tier.weightless))
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
        .find(|endpoint| facts.gates.standing(*endpoint, facts.now) == Standing::Ready)
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
    let (tiers, admit) = match reason {
        PickReason::FailOpen => ([Some(&cluster.all), None], Admit::FailOpen),
        _ => (
            [Some(&cluster.primaries), Some(&cluster.backups)],
            Admit::Ready,
        ),
    };
    // Weight 0 stands in a list only when the pick itself has none: it is a drain to many. Even then
    // it follows those of its tier that have weight.
    let weightless = cluster
        .endpoint(first)
        .is_some_and(|endpoint| endpoint.weight == 0);
    for tier in tiers.into_iter().flatten() {
        let before = list.len();
        select::extend(&mut list, &facts.candidates(&tier.weighted, admit), rng);
        if weightless && list.len() == before {
            select::extend(&mut list, &facts.candidates(&tier.weightless, admit), rng);
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
        match facts.gates.standing(*endpoint, facts.now) {
            Standing::BackingOff => {
                let left = facts.gates.wait_ns(*endpoint, facts.now);
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
