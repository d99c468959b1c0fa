//! Where a request may go.

use super::facts::Facts;
use super::limits::Keep;
use super::list::List;
use super::shard::Scope;
use super::turn::{Pick, Turn};
use super::{policy, tiered};
use crate::base::random::SplitMix64;
use crate::cluster::Cluster;
use crate::cluster::pool::Pool;
use crate::cluster::quota::Quota;
use crate::cluster::tier::{Rank, Tier};
use crate::gates::standing::Admit;
use crate::gates::trial;

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

    /// Which standings were admitted.
    pub(super) fn admit(self) -> Admit {
        match self {
            PickReason::FailOpen => Admit::FailOpen,
            _ => Admit::Ready,
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
    /// Whose the list is.
    pub scope: Scope,
    /// The client's cookie named nobody who may be picked (ST-3).
    pub sticky_lost: bool,
    /// It names one that has no room just now: the client keeps its cookie.
    pub keeps_cookie: bool,
    /// Somebody with no room would have been the first (RL-2).
    pub deferred: bool,
    /// Its token was not taken: other workers were faster too often.
    pub unpaid: bool,
    /// The first was held back until now, and this request alone tries it.
    pub trial: bool,
    /// Those on trial could be picked as well: nobody else could.
    pub lifts_trials: bool,
    /// The only eligible endpoint; the cluster grants more attempts, so it may stand twice, for
    /// resets alone (RT-7, RT-9).
    pub alone: bool,
    /// The turn that the first takes in its pool.
    pub(super) turn: Turn,
    /// To which limits the first was picked.
    pub(super) keep: Keep,
}

impl Plan {
    /// How often the first may be asked; `None`: as often as it comes.
    pub fn quota<'a>(&self, facts: &Facts<'a>) -> Option<&'a Quota> {
        let first = facts.cluster.endpoint(self.list.first()?)?;
        first.quota.as_deref()
    }

    /// The record of the cluster's buckets without the token that the first takes; `None` where it needs
    /// none.
    pub fn take_token(&self, facts: &Facts<'_>) -> Option<Vec<u8>> {
        Some(facts.buckets.take(self.quota(facts)?))
    }

    /// The cluster's blob of gates with the first on trial; `None` where it needs none.
    pub fn begin_trial(&self, facts: &Facts<'_>, gates: &[u8]) -> Option<Vec<u8>> {
        if self.lifts_trials || !facts.gates.may_await_trial() {
            return None;
        }
        let first = self.list.first()?;
        let awaits = facts.gates.awaits_trial(first, facts.now);
        awaits.then(|| trial::begin(facts.cluster, gates, first, facts.now))?
    }

    /// The tier that the first is of, where the policy ranks (LB-22).
    pub fn tier_name(&self, cluster: &Cluster) -> Option<&'static str> {
        tiered::tier_name(cluster, self.list.first()?)
    }

    /// Takes the turn for good. A decision alone moves nothing: it is committed once, after
    /// everything else was granted. `facts` are those that it was made of.
    pub fn commit(&self, facts: &Facts<'_>) {
        // Most policies keep no books.
        if self.turn == Turn::None {
            return;
        }
        if let (Some(endpoint), Some(pool)) = (self.list.first(), self.pool(facts)) {
            let turn = self.turn;
            let lifted = facts.gates.lifting_trials();
            let mut candidates = facts.candidates(pool, self.reason.admit());
            if self.lifts_trials {
                candidates.gates = &lifted;
            }
            candidates.keep = self.keep;
            policy::commit(&candidates, Pick { endpoint, turn });
        }
    }

    /// The tier that the first was picked from; a cookie picks from none.
    fn tier<'a>(&self, facts: &Facts<'a>) -> Option<&'a Tier> {
        let cluster = facts.cluster;
        match (self.scope, self.reason) {
            (_, PickReason::Sticky) => None,
            (Scope::Shard, _) => cluster.shard(facts.key),
            (_, PickReason::FailOpen) => Some(&cluster.all),
            (_, reason) => {
                let mut tiers = cluster.tiers.iter();
                tiers.find(|tier| PickReason::from(tier.rank) == reason)
            }
        }
    }

    /// The pool that the first was picked from.
    fn pool<'a>(&self, facts: &Facts<'a>) -> Option<&'a Pool> {
        let weight = facts.cluster.endpoint(self.list.first()?)?.weight;
        Some(self.tier(facts)?.pool_of(weight))
    }

    /// Whether somebody of a pool stands in the list or may yet.
    fn prefers_any(&self, facts: &Facts<'_>, pool: &Pool, (admit, keep): (Admit, Keep)) -> bool {
        let mut candidates = facts.candidates(pool, admit);
        candidates.keep = keep;
        let mut entries = self.list.entries().iter();
        entries.any(|entry| pool.place_of(*entry).is_some())
            || candidates.eligible().next().is_some()
    }

    /// Adds whom the request is sent to when the first fails: of those with limits first who has room,
    /// then who can owe a token; whom one request is to try alone comes last.
    pub(super) fn add_retries(&mut self, facts: &Facts<'_>, rng: &mut SplitMix64) {
        let cluster = facts.cluster;
        let shard = match self.scope {
            Scope::Shard => cluster.shard(facts.key),
            _ => None,
        };
        let (tiers, admit) = match (shard, self.reason.admit()) {
            (Some(shard), admit) => (std::slice::from_ref(shard), admit),
            (None, Admit::FailOpen) => (std::slice::from_ref(&cluster.all), Admit::FailOpen),
            (None, Admit::Ready) => (&cluster.tiers[..], Admit::Ready),
        };
        // Weight 0 stands in a list only when the pick itself has none: it is a drain to many. Even then
        // it follows those of its tier that have weight.
        let first = self.list.first().and_then(|first| cluster.endpoint(first));
        let weightless = first.is_some_and(|endpoint| endpoint.weight == 0);
        // Where the first takes a turn, its own pool is looked at as it will be then.
        let turn = self.turn;
        let own = match turn {
            Turn::None => None,
            _ => self.pool(facts),
        };
        let mut extend = |list: &mut List, pool, (keep, only_tried)| {
            let mut candidates = facts.candidates(pool, admit);
            (candidates.keep, candidates.only_tried) = (keep, only_tried);
            if own.is_some_and(|own| std::ptr::eq(own, pool)) {
                candidates.pending = turn;
            }
            policy::extend(list, &candidates, rng);
        };
        let keeps: &[Keep] = match cluster.has_limits {
            true => &[Keep::Limits, Keep::Credit],
            false => &[Keep::Nothing],
        };
        let tried: &[bool] = match facts.gates.may_await_trial() {
            true => &[true, false],
            false => &[false],
        };
        let rounds = keeps
            .iter()
            .flat_map(|keep| tried.iter().map(move |it| (*keep, *it)));
        for round in rounds {
            for tier in tiers {
                extend(&mut self.list, &tier.weighted, round);
                if weightless && !self.prefers_any(facts, &tier.weighted, (admit, round.0)) {
                    extend(&mut self.list, &tier.weightless, round);
                }
                if self.list.len() >= cluster.retry.attempts {
                    return;
                }
            }
        }
    }
}
