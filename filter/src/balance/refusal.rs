//! Why a request finds no backend, and when one may be found.

use super::facts::Facts;
use super::limits::Limit;
use crate::cluster::pool::Pool;
use crate::cluster::tier::Tier;
use crate::gates::standing::{Admit, Standing};

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
    /// Nobody of the client's shard can serve, and the cluster refuses rather than spills (LB-17).
    ShardExhausted,
    /// The client has as many streams as it may have (RL-10).
    TooManyStreams,
    /// Nobody who could serve has room: no token, or too many requests in flight (RL-3).
    AllLimited,
}

impl RefusalReason {
    /// Whether there is somebody, but no room.
    pub fn is_of_limits(self) -> bool {
        matches!(
            self,
            RefusalReason::AllLimited | RefusalReason::TooManyStreams
        )
    }

    /// Its name, in the answer's body and in the counter of refusals.
    pub fn name(self) -> &'static str {
        match self {
            RefusalReason::NoBackends => "no_backends",
            RefusalReason::AllUnhealthy => "all_unhealthy",
            RefusalReason::AllBackingOff => "all_backing_off",
            RefusalReason::AllCoolingDown => "all_cooling_down",
            RefusalReason::ShardExhausted => "shard_exhausted",
            RefusalReason::AllLimited => "all_limited",
            RefusalReason::TooManyStreams => "too_many_streams",
        }
    }
}

/// A request that is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The soonest end of a back-off or a cooldown, or the soonest token, from now, nanoseconds.
    pub retry_after_ns: Option<u64>,
}

/// Nobody of a tier has room who may be picked otherwise.
pub fn no_room<'a>(facts: &Facts<'a>, tier: &'a Tier, admit: Admit) -> Refusal {
    let pools = tier.pools().into_iter();
    let waits = pools.flat_map(|pool| {
        let candidates = facts.candidates(pool, admit);
        let members = pool.members().iter();
        members.filter_map(move |endpoint| match facts.limit(*endpoint) {
            Some(Limit::Rate(wait_ns)) if candidates.is_eligible(*endpoint) => Some(wait_ns),
            _ => None,
        })
    });
    Refusal {
        reason: RefusalReason::AllLimited,
        retry_after_ns: waits.min(),
    }
}

/// Why nobody serves, whatever room there is: nobody of the shard, or nobody at all.
pub fn nobody(facts: &Facts<'_>, shard: Option<&Tier>) -> Refusal {
    let members = shard.unwrap_or(&facts.cluster.all).pools();
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
            Standing::BackingOff | Standing::CoolingDown | Standing::OnTrial => {
                let left = facts.gates.wait_ns(*endpoint, facts.now);
                soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
            }
            Standing::Unhealthy | Standing::Ready => unhealthy = true,
        }
    }
    let reason = match (anybody, unhealthy, backing_off) {
        _ if shard.is_some() => RefusalReason::ShardExhausted,
        (false, _, _) => RefusalReason::NoBackends,
        (true, true, _) => RefusalReason::AllUnhealthy,
        (true, false, true) => RefusalReason::AllBackingOff,
        (true, false, false) => RefusalReason::AllCoolingDown,
    };
    Refusal {
        reason,
        retry_after_ns: soonest,
    }
}
