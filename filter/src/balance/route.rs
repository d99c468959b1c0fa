//! A request's entry: which endpoints, in which order, or why none.

pub use super::facts::Facts;
use super::limits::Keep;
use super::list::List;
pub use super::plan::{PickReason, Plan};
use super::policy;
pub use super::refusal::RefusalReason;
use super::refusal::{Refusal, no_room, nobody};
pub use super::shard::Scope;
use super::shard::scope_beside;
use super::turn::Turn;
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::tier::{Rank, Tier};
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::WhenAllUnhealthy;
use crate::gates::buckets::Buckets;
use crate::gates::standing::{Admit, Standing};
use crate::gates::view::GatesView;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is sent along a list.
    Forward(Plan),
    /// It is answered here.
    Refuse {
        /// Why.
        reason: RefusalReason,
        /// The soonest end of a back-off or a cooldown, or the soonest token, from now, nanoseconds.
        retry_after_ns: Option<u64>,
    },
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            reason,
            retry_after_ns,
        } = refusal;
        Decision::Refuse {
            reason,
            retry_after_ns,
        }
    }
}

/// The first of a list, and what is to be said of it.
struct First {
    endpoint: EndpointIndex,
    turn: Turn,
    /// To which limits it was picked.
    keep: Keep,
    keeps_cookie: bool,
    deferred: bool,
}

/// Decides. Who is on trial counts as one that may be picked where nobody else may: before that anybody
/// fails open, or is refused.
pub fn route(facts: &Facts<'_>, rng: &mut SplitMix64) -> Decision {
    // Made in its place: it is large.
    if facts.gates.is_empty() {
        return decide(facts, rng);
    }
    let mut decision = decide(facts, rng);
    decide_beside_trials(&mut decision, facts, rng);
    decision
}

/// The second part of [`route`]: apart, so that a decision is made in its place; it is large.
#[inline]
pub fn lift_trials(decision: &mut Decision, facts: &Facts<'_>, rng: &mut SplitMix64) {
    if !facts.gates.is_empty() {
        decide_beside_trials(decision, facts, rng);
    }
}

#[inline(never)]
fn decide_beside_trials(decision: &mut Decision, facts: &Facts<'_>, rng: &mut SplitMix64) {
    let by_ready = |decision: &Decision| match decision {
        Decision::Forward(plan) => plan.reason != PickReason::FailOpen,
        Decision::Refuse { .. } => false,
    };
    if by_ready(decision) || !facts.gates.has_trials(facts.now) {
        return;
    }
    let gates = &facts.gates.lifting_trials();
    let mut lifted = decide(&Facts { gates, ..*facts }, rng);
    if matches!(decision, Decision::Forward(_)) && !by_ready(&lifted) {
        return;
    }
    if let Decision::Forward(plan) = &mut lifted {
        plan.lifts_trials = true;
    }
    *decision = lifted;
}

/// The first part of [`route`]: the cookie's backend if it may be picked, else the policy's choice in the
/// client's shard, else in the first tier that has one, else, where the cluster fails open, among the
/// unhealthy.
pub fn decide(facts: &Facts<'_>, rng: &mut SplitMix64) -> Decision {
    let cluster = facts.cluster;
    let named = |keep| {
        let mut cookies = facts.cookies.iter();
        cookies.find_map(|value| sticky_endpoint(facts, value, keep))
    };
    let mut first = First {
        endpoint: EndpointIndex::NONE,
        turn: Turn::None,
        keep: Keep::Nothing,
        keeps_cookie: false,
        deferred: false,
    };
    if let Some(endpoint) = named(facts.keep()) {
        let can_serve = |pool: &Pool| facts.any_ready_in(pool);
        let scope = scope_beside(cluster, facts.key, endpoint, can_serve);
        first.endpoint = endpoint;
        return forward(facts, &first, (PickReason::Sticky, scope), rng);
    }
    first.keeps_cookie = cluster.has_limits && named(Keep::Nothing).is_some();
    let shard = cluster.shard(facts.key);
    if let Some(shard) = shard
        && pick_in(facts, shard, Admit::Ready, &mut first, rng)
    {
        return forward(facts, &first, (PickReason::Primary, Scope::Shard), rng);
    }
    let refuses = cluster.shards.as_ref().is_some_and(|shards| shards.refuses);
    let is_full = first.deferred;
    for tier in &cluster.tiers {
        if !pick_in(facts, tier, Admit::Ready, &mut first, rng) {
            continue;
        }
        let scope = match (tier.rank, shard) {
            (Rank::Primary, Some(shard)) if refuses && is_full => {
                return no_room(facts, shard, Admit::Ready).into();
            }
            (Rank::Primary, Some(shard)) if refuses => return nobody(facts, Some(shard)).into(),
            (Rank::Primary, Some(_)) => Scope::Spilled,
            _ => Scope::Cluster,
        };
        return forward(facts, &first, (tier.rank.into(), scope), rng);
    }
    // Failing open is for reasons of health; it lifts no limit.
    if first.deferred {
        return no_room(facts, &cluster.all, Admit::Ready).into();
    }
    if cluster.when_all_unhealthy == WhenAllUnhealthy::FailOpen {
        let all = Some(&cluster.all).filter(|_| !refuses);
        for (tier, scope) in [(shard, Scope::Shard), (all, Scope::Cluster)] {
            if let Some(tier) = tier
                && pick_in(facts, tier, Admit::FailOpen, &mut first, rng)
            {
                return forward(facts, &first, (PickReason::FailOpen, scope), rng);
            }
        }
        if first.deferred {
            return no_room(facts, &cluster.all, Admit::FailOpen).into();
        }
    }
    nobody(facts, None).into()
}

/// Whether anybody can serve without failing open; the end of that regime.
pub fn any_ready(cluster: &Cluster, gates: &GatesView<'_>, now: WallTime) -> bool {
    let gates = &gates.lifting_trials();
    let facts = Facts {
        cluster,
        gates,
        buckets: Buckets::read(&[], now),
        cookies: &[],
        key: 0,
        now,
    };
    let mut pools = cluster.all.pools().into_iter();
    pools.any(|pool| facts.any_ready_in(pool))
}

/// Whether somebody of a tier may be the first. Weight 0 is picked only where nobody with a weight may
/// be (LB-4). First the policy is asked as if there were no limits: whom it names then, the request was
/// for. One who has no room is passed by, and the policy is asked among those who have.
fn pick_in(
    facts: &Facts<'_>,
    tier: &Tier,
    admit: Admit,
    first: &mut First,
    rng: &mut SplitMix64,
) -> bool {
    for pool in tier.pools() {
        let candidates = facts.candidates(pool, admit);
        let mut found = policy::pick(&candidates, rng);
        first.keep = Keep::Nothing;
        if facts.cluster.has_limits
            && found.is_some_and(|pick| facts.limit(pick.endpoint).is_some())
        {
            first.deferred = true;
            first.keep = Keep::Limits;
            found = policy::pick(&candidates.keeping(Keep::Limits), rng);
        }
        if let Some(pick) = found {
            (first.endpoint, first.turn) = (pick.endpoint, pick.turn);
            return true;
        }
    }
    false
}

/// The first endpoint in the registry's order that the cookie names and that can serve; that it is
/// a backup does not matter (ST-10).
fn sticky_endpoint(facts: &Facts<'_>, value: &[u8], keep: Keep) -> Option<EndpointIndex> {
    let named = facts
        .cluster
        .backends_by_sticky_value(value)
        .filter(|backend| backend.is_normal());
    named.map(|backend| backend.endpoint).find(|endpoint| {
        let has_room = keep == Keep::Nothing || facts.limit(*endpoint).is_none();
        has_room && facts.gates.standing(*endpoint, facts.now) == Standing::Ready
    })
}

/// Makes the list: the pick, then the next best of its tier, then of the backups; of a shard alone,
/// where the list is the shard's.
fn forward(
    facts: &Facts<'_>,
    first: &First,
    (reason, scope): (PickReason, Scope),
    rng: &mut SplitMix64,
) -> Decision {
    let is_lost = reason != PickReason::Sticky && !first.keeps_cookie;
    let plan = |list| Plan {
        list,
        reason,
        scope,
        sticky_lost: !facts.cookies.is_empty() && is_lost,
        keeps_cookie: first.keeps_cookie,
        deferred: first.deferred || first.keeps_cookie,
        unpaid: false,
        trial: false,
        lifts_trials: false,
        alone: false,
        turn: first.turn,
        keep: first.keep,
    };
    // Most of it is written here and read only by who takes the decision: copied, it is waited for.
    if facts.cluster.retry.attempts <= 1 {
        return Decision::Forward(plan(List::of(first.endpoint)));
    }
    let mut plan = plan(List::default());
    plan.list.push(first.endpoint);
    plan.add_retries(facts, rng);
    plan.alone = plan.list.len() == 1;
    Decision::Forward(plan)
}

#[cfg(test)]
mod tests;
