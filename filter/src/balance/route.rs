//! A request's entry: which endpoints, in which order, or why none.

use super::candidates::Candidates;
use super::list::List;
use super::policy;
use super::turn::{Pick, Turn};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::tier::{Rank, Tier};
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::WhenAllUnhealthy;
use crate::gates::standing::{Admit, Standing};
use crate::gates::view::GatesView;

/// Everything a decision depends on, but for the randomness.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request's cluster.
    pub cluster: &'a Cluster,
    /// What is held against its endpoints.
    pub gates: &'a GatesView<'a>,
    /// What the client's sticky cookies say, in a sticky cluster.
    pub cookies: &'a [Vec<u8>],
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

impl From<Rank> for PickReason {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Primary => PickReason::Primary,
            Rank::Backup => PickReason::Backup,
        }
    }
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
    /// The turn that the first takes in its pool.
    turn: Turn,
}

impl Plan {
    /// Takes the turn for good. A decision alone moves nothing: it is committed once, after
    /// everything else was granted. `facts` are those that it was made of.
    pub fn commit(&self, facts: &Facts<'_>) {
        // Most policies keep no books.
        if self.turn == Turn::None {
            return;
        }
        let first = self.list.first();
        let pool = first.and_then(|first| facts.pool_of(first, self.reason));
        if let (Some(endpoint), Some(pool)) = (first, pool) {
            let turn = self.turn;
            let candidates = facts.candidates(pool, self.reason.admit());
            policy::commit(&candidates, Pick { endpoint, turn });
        }
    }
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
    /// Everybody is inside a window, and all of these are cooldowns (RT-12).
    AllCoolingDown,
}

impl RefusalReason {
    /// Its name, in the answer's body and in the counter of refusals.
    pub fn name(self) -> &'static str {
        match self {
            RefusalReason::NoBackends => "no_backends",
            RefusalReason::AllUnhealthy => "all_unhealthy",
            RefusalReason::AllBackingOff => "all_backing_off",
            RefusalReason::AllCoolingDown => "all_cooling_down",
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
        /// The soonest end of a back-off or a cooldown, from now, nanoseconds.
        retry_after_ns: Option<u64>,
    },
}

/// Decides: the cookie's backend if it may be picked, else the policy's choice in the first tier
/// that has one, else, where the cluster fails open, among the unhealthy.
pub fn route(facts: &Facts<'_>, rng: &mut SplitMix64) -> Decision {
    let cookies = facts.cookies.iter();
    let sticky = cookies
        .clone()
        .find_map(|value| sticky_endpoint(facts, value));
    let sticky_lost = !facts.cookies.is_empty() && sticky.is_none();
    if let Some(endpoint) = sticky {
        let pick = Pick::of(endpoint);
        return forward(facts, pick, PickReason::Sticky, false, rng);
    }
    let cluster = facts.cluster;
    for tier in &cluster.tiers {
        if let Some(pick) = pick_in(facts, tier, Admit::Ready, rng) {
            return forward(facts, pick, tier.rank.into(), sticky_lost, rng);
        }
    }
    if cluster.when_all_unhealthy == WhenAllUnhealthy::FailOpen
        && let Some(pick) = pick_in(facts, &cluster.all, Admit::FailOpen, rng)
    {
        return forward(facts, pick, PickReason::FailOpen, sticky_lost, rng);
    }
    refuse(facts)
}

/// Whether anybody can serve without failing open; the end of that regime.
pub fn any_ready(cluster: &Cluster, gates: &GatesView<'_>, now: WallTime) -> bool {
    let facts = Facts {
        cluster,
        gates,
        cookies: &[],
        now,
    };
    let mut pools = cluster.all.pools().into_iter();
    pools.any(|pool| {
        let candidates = facts.candidates(pool, Admit::Ready);
        candidates.eligible().next().is_some()
    })
}

impl<'a> Facts<'a> {
    /// The candidates of a pool, none of them in a list yet.
    pub(super) fn candidates(&self, pool: &'a Pool, admit: Admit) -> Candidates<'a> {
        Candidates {
            cluster: self.cluster,
            pool,
            gates: self.gates,
            admit,
            taken: &[],
            pending: Turn::None,
            now: self.now,
        }
    }

    /// The pool from which an endpoint was picked for a reason; a cookie picks from none.
    fn pool_of(&self, endpoint: EndpointIndex, reason: PickReason) -> Option<&'a Pool> {
        let tier = match reason {
            PickReason::Sticky => return None,
            PickReason::FailOpen => &self.cluster.all,
            reason => {
                let mut tiers = self.cluster.tiers.iter();
                tiers.find(|tier| PickReason::from(tier.rank) == reason)?
            }
        };
        let weight = self.cluster.endpoint(endpoint)?.weight;
        Some(tier.pool_of(weight))
    }
}

impl PickReason {
    /// Which standings were admitted.
    pub(super) fn admit(self) -> Admit {
        match self {
            PickReason::FailOpen => Admit::FailOpen,
            _ => Admit::Ready,
        }
    }
}

/// Weight 0 is picked only where nobody with a weight may be (LB-4).
fn pick_in(facts: &Facts<'_>, tier: &Tier, admit: Admit, rng: &mut SplitMix64) -> Option<Pick> {
    let mut pools = tier.pools().into_iter();
    pools.find_map(|pool| policy::pick(&facts.candidates(pool, admit), rng))
}

/// The first endpoint in the registry's order that the cookie names and that can serve; that it is
/// a backup does not matter (ST-10).
fn sticky_endpoint(facts: &Facts<'_>, value: &[u8]) -> Option<EndpointIndex> {
    let named = facts
        .cluster
        .backends_by_sticky_value(value)
        .filter(|backend| backend.is_normal());
    named
        .map(|backend| backend.endpoint)
        .find(|endpoint| facts.gates.standing(*endpoint, facts.now) == Standing::Ready)
}

/// Makes the list: the pick, then the next best of its tier, then of the backups.
fn forward(
    facts: &Facts<'_>,
    first: Pick,
    reason: PickReason,
    sticky_lost: bool,
    rng: &mut SplitMix64,
) -> Decision {
    let mut list = List::of(first.endpoint);
    let retries = facts.cluster.retry.attempts > 1;
    if retries {
        add_retries(&mut list, facts, first, reason, rng);
    }
    Decision::Forward(Plan {
        alone: retries && list.len() == 1,
        list,
        reason,
        sticky_lost,
        turn: first.turn,
    })
}

/// Adds whom the request is sent to when the first fails.
fn add_retries(
    list: &mut List,
    facts: &Facts<'_>,
    first: Pick,
    reason: PickReason,
    rng: &mut SplitMix64,
) {
    let cluster = facts.cluster;
    let (tiers, admit) = match reason {
        PickReason::FailOpen => (std::slice::from_ref(&cluster.all), Admit::FailOpen),
        _ => (&cluster.tiers[..], Admit::Ready),
    };
    // Weight 0 stands in a list only when the pick itself has none: it is a drain to many. Even then
    // it follows those of its tier that have weight.
    let weightless = cluster
        .endpoint(first.endpoint)
        .is_some_and(|endpoint| endpoint.weight == 0);
    // Where the first takes a turn, its own pool is looked at as it will be then.
    let own = match first.turn {
        Turn::None => None,
        _ => facts.pool_of(first.endpoint, reason),
    };
    let mut extend = |list: &mut List, pool| {
        let mut candidates = facts.candidates(pool, admit);
        if own.is_some_and(|own| std::ptr::eq(own, pool)) {
            candidates.pending = first.turn;
        }
        policy::extend(list, &candidates, rng);
    };
    for tier in tiers {
        let before = list.len();
        extend(list, &tier.weighted);
        if weightless && list.len() == before {
            extend(list, &tier.weightless);
        }
        if list.len() >= cluster.retry.attempts {
            break;
        }
    }
}

fn refuse(facts: &Facts<'_>) -> Decision {
    let members = facts.cluster.all.pools();
    let members = members.into_iter().flat_map(Pool::members);
    let mut anybody = false;
    let mut unhealthy = false;
    let mut backing_off = false;
    let mut soonest: Option<u64> = None;
    for endpoint in members {
        anybody = true;
        let standing = facts.gates.standing(*endpoint, facts.now);
        backing_off |= standing == Standing::BackingOff;
        match standing {
            Standing::BackingOff | Standing::CoolingDown => {
                let left = facts.gates.wait_ns(*endpoint, facts.now);
                soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
            }
            Standing::Unhealthy | Standing::Ready => unhealthy = true,
        }
    }
    let reason = match (anybody, unhealthy, backing_off) {
        (false, _, _) => RefusalReason::NoBackends,
        (true, true, _) => RefusalReason::AllUnhealthy,
        (true, false, true) => RefusalReason::AllBackingOff,
        (true, false, false) => RefusalReason::AllCoolingDown,
    };
    Decision::Refuse {
        reason,
        retry_after_ns: soonest,
    }
}

#[cfg(test)]
mod tests;
