//! A tier of a cluster: endpoints that are picked before or after those of other tiers.

use super::endpoint::{Endpoint, EndpointIndex};
use super::load::Load;
use super::pool::Pool;
use super::tables::{Table, running_weights};
use crate::config::Policy;

/// Where a tier stands: the tiers of a cluster are tried in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Tried first.
    Primary,
    /// Tried when no primary can serve (GT-4).
    Backup,
}

/// Endpoints of one rank, split by whether they have weight.
#[derive(Debug)]
pub struct Tier {
    /// Its rank.
    pub rank: Rank,
    /// Those with a weight.
    pub weighted: Pool,
    /// Those of weight 0, picked only when no weighted one can be (LB-4).
    pub weightless: Pool,
}

impl Tier {
    /// The endpoints for which `wanted` holds. `seed` is where round robin starts, so that workers
    /// that start together do not turn together.
    pub fn new(
        rank: Rank,
        policy: Policy,
        endpoints: &[Endpoint],
        wanted: &dyn Fn(&Endpoint) -> bool,
        seed: u32,
    ) -> Self {
        let (mut weighted, mut weightless) = (Vec::new(), Vec::new());
        for (place, endpoint) in endpoints.iter().enumerate().filter(|(_, e)| wanted(e)) {
            let side = if endpoint.weight > 0 {
                &mut weighted
            } else {
                &mut weightless
            };
            side.push((EndpointIndex::of(place), endpoint.weight));
        }
        let tier = Tier {
            rank,
            weighted: Pool::new(policy, &weighted, seed),
            weightless: Pool::new(policy, &weightless, seed),
        };
        if matches!(tier.weighted.table(), Table::Smooth) {
            let loads = endpoints.iter().filter(|e| wanted(e) && e.weight > 0);
            let loads: Vec<&Load> = loads.map(|endpoint| &*endpoint.load).collect();
            let weights: Vec<u16> = weighted.iter().map(|(_, weight)| *weight).collect();
            start_turning(&loads, &weights, seed);
        }
        tier
    }

    /// Both pools, in the order in which they are tried.
    pub fn pools(&self) -> [&Pool; 2] {
        [&self.weighted, &self.weightless]
    }

    /// The pool that holds an endpoint of this weight.
    pub fn pool_of(&self, weight: u16) -> &Pool {
        if weight > 0 {
            &self.weighted
        } else {
            &self.weightless
        }
    }
}

/// Puts loads of which none has had a turn where smooth weighted round robin takes them in so many
/// turns as `seed` says.
fn start_turning(loads: &[&Load], weights: &[u16], seed: u32) {
    if loads.iter().all(|load| load.turn.get().is_none()) {
        for (load, running) in loads.iter().zip(running_weights(weights, seed)) {
            load.turn.set(Some(running));
        }
    }
}
