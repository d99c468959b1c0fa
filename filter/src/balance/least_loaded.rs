//! Least loaded, per unit of weight (LB-5).

use std::cmp::Ordering;
use std::mem;

use super::candidates::{Candidates, compare};
use super::list::{LIST_MAX, List};
use super::lot::Lot;
use super::turn::Pick;
use crate::base::random::SplitMix64;
use crate::cluster::EndpointIndex;

/// The least loaded; a tie goes to one of the tied in proportion to the weights.
pub fn pick(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let mut best = [Contender::NOBODY];
    rank(candidates, rng, &mut best);
    let [best] = best;
    best.is_somebody().then(|| Pick::of(best.endpoint))
}

/// Adds the next best until the list is as long as the cluster has attempts: everybody is looked at once
/// for all of them.
pub fn extend(list: &mut List, candidates: &Candidates<'_>, rng: &mut SplitMix64) {
    let taken = *list;
    let missing = candidates.cluster.retry.attempts.saturating_sub(list.len());
    let mut best = [Contender::NOBODY; LIST_MAX];
    let best = best.get_mut(..missing).unwrap_or_default();
    rank(&candidates.without(taken.entries()), rng, best);
    let there = best.iter().filter(|it| it.is_somebody());
    there.for_each(|it| list.push(it.endpoint));
}

/// Puts the best, the best of them first, in the place of nobody.
fn rank(candidates: &Candidates<'_>, rng: &mut SplitMix64, best: &mut [Contender]) {
    let metric = candidates.cluster.balancing.metric;
    for endpoint in candidates.eligible() {
        let mut cost = candidates.cost(endpoint, metric);
        // Webster's method of apportionment: shares are rounded to the nearest whole request, so that
        // neither heavy nor light ones are favoured. The idle are tied, whatever they weigh.
        if cost > 0.0 && !metric.is_time() {
            cost += 0.5;
        }
        let lot = Lot {
            draw: rng.draw(),
            weight: candidates.weight(endpoint),
        };
        let mut this = Contender {
            endpoint,
            cost,
            lot,
        };
        if best.last().is_some_and(|worst| this.beats(worst)) {
            for other in best.iter_mut() {
                if this.beats(other) {
                    mem::swap(&mut this, other);
                }
            }
        }
    }
}

/// One who may be picked.
#[derive(Clone, Copy)]
struct Contender {
    endpoint: EndpointIndex,
    /// Its load, before it is divided by the weight.
    cost: f64,
    /// What decides among those that are tied.
    lot: Lot,
}

impl Contender {
    /// Loses against everybody.
    const NOBODY: Contender = Contender {
        endpoint: EndpointIndex::NONE,
        cost: f64::INFINITY,
        lot: Lot { draw: 0, weight: 1 },
    };

    fn is_somebody(&self) -> bool {
        self.endpoint != EndpointIndex::NONE
    }

    fn beats(&self, other: &Contender) -> bool {
        let costs = ((self.cost, self.lot.weight), (other.cost, other.lot.weight));
        match compare(costs.0, costs.1) {
            Ordering::Less => true,
            Ordering::Equal => self.lot.beats(other.lot),
            Ordering::Greater => false,
        }
    }
}
