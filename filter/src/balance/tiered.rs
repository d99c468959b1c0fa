//! Tiered: the weight is a rank, and costs decide among equals (LB-13 to LB-15).

use std::cmp::{Ordering, Reverse};
use std::fmt;

use super::candidates::Candidates;
use super::turn::{Pick, Turn};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::averages::Average;
use crate::cluster::{Cluster, Endpoint, EndpointIndex};

/// The best: by weight, in the middle tier then by cost, and then the one whose last pick was the
/// longest ago. Of those that were never picked one by chance: workers that start together do not turn
/// together.
pub fn pick(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let mut best = None;
    let mut chosen = None;
    let (mut tied, mut last) = (0u32, 0);
    for index in candidates.pool.members() {
        let Some(endpoint) = candidates.cluster.endpoint(*index) else {
            continue;
        };
        let picked = endpoint.load.turn.get().unwrap_or(0);
        last = picked.max(last);
        if !candidates.is_eligible(*index) {
            continue;
        }
        let cost_ns = match tier_of(endpoint.weight) {
            2 => endpoint.load.ranking.at(candidates.now).cost_ns(),
            _ => 0,
        };
        let this = (Reverse(endpoint.weight), cost_ns, picked);
        let order = best.map_or(Ordering::Less, |best| this.cmp(&best));
        tied = match order {
            Ordering::Less => 1,
            Ordering::Equal => tied.saturating_add(1),
            Ordering::Greater => continue,
        };
        if order.is_lt() || rng.below(tied) == 0 {
            (best, chosen) = (Some(this), Some(*index));
        }
    }
    chosen.map(|endpoint| Pick {
        endpoint,
        turn: Turn::Last(last.saturating_add(1)),
    })
}

/// Notes a pick as the last one so far. A number counts among the members of one pool; no clock can
/// tell apart what happens at once.
pub fn commit(candidates: &Candidates<'_>, picked: EndpointIndex, number: i64) {
    if let Some(endpoint) = candidates.cluster.endpoint(picked) {
        endpoint.load.turn.set(Some(number));
    }
}

/// The tier of a weight: 1 to 3, tried in this order (LB-13).
fn tier_of(weight: u16) -> u8 {
    match weight {
        100.. => 1,
        50..100 => 2,
        _ => 3,
    }
}

/// The name of an endpoint's tier, in the counter of picks (LB-22); `None` where the policy has none.
pub fn tier_name(cluster: &Cluster, endpoint: EndpointIndex) -> Option<&'static str> {
    let endpoint = cluster
        .endpoint(endpoint)
        .filter(|_| cluster.has_averages())?;
    Some(match tier_of(endpoint.weight) {
        1 => "tier_1",
        2 => "tier_2",
        _ => "tier_3",
    })
}

/// How an endpoint stands among the others of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Its tier, 1 to 3.
    pub tier: u8,
    /// Its weight.
    pub weight: u16,
    /// What its cost is made of. It decides in tier 2 alone.
    pub average: Average,
}

impl Rank {
    /// That of an endpoint now; `None` where the policy has none.
    pub fn of(cluster: &Cluster, endpoint: &Endpoint, now: WallTime) -> Option<Self> {
        cluster.has_averages().then(|| Rank {
            tier: tier_of(endpoint.weight),
            weight: endpoint.weight,
            average: endpoint.load.ranking.at(now),
        })
    }
}

/// For people: `tier 2, weight 60, cost 1200 ms (latency 200 ms, penalty 1000 ms)`.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns.div_ceil(1_000_000);
        let Rank {
            tier,
            weight,
            average,
        } = self;
        write!(
            f,
            "tier {tier}, weight {weight}, cost {} ms (latency {} ms, penalty {} ms)",
            ms(average.cost_ns()),
            ms(average.latency_ns),
            ms(average.penalty_ns)
        )
    }
}
