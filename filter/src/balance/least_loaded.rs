//! Least loaded, per unit of weight (LB-5).

use std::cmp::Ordering;

use super::candidates::{Candidates, compare};
use super::turn::Pick;
use crate::base::random::SplitMix64;

/// The least loaded; a tie goes to one of the tied in proportion to the weights.
pub fn pick(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let metric = candidates.cluster.balancing.metric;
    let mut best: Option<(f64, u32)> = None;
    let mut chosen = None;
    let mut tied: u64 = 0;
    for endpoint in candidates.eligible() {
        let mut cost = candidates.cost(endpoint, metric);
        // Webster's method of apportionment: shares are rounded to the nearest whole request, so that
        // neither heavy nor light ones are favoured. The idle are tied, whatever they weigh.
        if cost > 0.0 && !metric.is_time() {
            cost += 0.5;
        }
        let this = (cost, candidates.weight(endpoint));
        let weight = u64::from(this.1);
        match best.map(|best| compare(this, best)) {
            None | Some(Ordering::Less) => {
                tied = weight;
                (best, chosen) = (Some(this), Some(endpoint));
            }
            Some(Ordering::Equal) => {
                // The newcomer's share is that of its weight among all tied so far.
                tied = tied.saturating_add(weight);
                if rng.between(1, tied) <= weight {
                    (best, chosen) = (Some(this), Some(endpoint));
                }
            }
            Some(Ordering::Greater) => {}
        }
    }
    chosen.map(Pick::of)
}
