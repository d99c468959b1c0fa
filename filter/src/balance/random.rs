//! Random, in proportion to the weights (LB-3).

use super::candidates::Candidates;
use super::turn::Pick;
use crate::base::random::SplitMix64;
use crate::cluster::tables::Shares;

/// One by chance.
pub fn pick(shares: &Shares, candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let len = candidates.pool.len();
    let place = |rng: &mut SplitMix64| shares.draw(len, rng);
    let weight = |endpoint| candidates.weight(endpoint);
    candidates.draw(None, rng, place, weight).map(Pick::of)
}
