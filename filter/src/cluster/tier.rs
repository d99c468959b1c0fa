//! A tier of a cluster: endpoints that are picked before or after those of other tiers.

use super::endpoint::Endpoint;
use super::pool::Pool;

/// One tier of a cluster.
#[derive(Debug)]
pub struct Tier {
    /// Those with a weight.
    pub weighted: Pool,
    /// Those of weight 0, picked only when no weighted one can be (LB-4).
    pub weightless: Pool,
}

impl Tier {
    /// The endpoints for which `wanted` holds. `seed` is where round robin starts, so that workers
    /// that start together do not turn together.
    pub fn new(endpoints: &[Endpoint], wanted: impl Fn(&Endpoint) -> bool, seed: u32) -> Self {
        let (mut weighted, mut weightless) = (Vec::new(), Vec::new());
        for (index, endpoint) in (0u32..).zip(endpoints).filter(|(_, e)| wanted(e)) {
            let side = if endpoint.weight > 0 {
                &mut weighted
            } else {
                &mut weightless
            };
            side.push((index, endpoint.weight));
        }
        Tier {
            weighted: Pool::new(&weighted, seed),
            weightless: Pool::new(&weightless, seed),
        }
    }
}
