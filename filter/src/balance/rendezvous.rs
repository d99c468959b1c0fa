//! Rendezvous, or highest random weight: every key ranks all endpoints, and the first that may be
//! picked serves (LB-10).
//!
//! An endpoint draws a lot for each key, and its weight multiplies its chances. Nothing an endpoint draws
//! depends on the others, so one that comes or goes moves its own keys alone.

use super::candidates::Candidates;
use super::lot::Lot;
use super::turn::Pick;
use crate::base::hash;

/// The first of the key's ranking.
pub fn pick(candidates: &Candidates<'_>) -> Option<Pick> {
    let mut best = None;
    let mut chosen = None;
    for endpoint in candidates.pool.members().iter().copied() {
        let Some(compiled) = candidates.cluster.endpoint(endpoint) else {
            continue;
        };
        let draw = hash::draw(candidates.key, compiled.load.key.0);
        let this = Lot {
            draw,
            weight: compiled.weight.max(1).into(),
        };
        // What is held against it is asked of one that leads alone.
        if best.is_none_or(|best| this.beats(best)) && candidates.is_eligible(endpoint) {
            (best, chosen) = (Some(this), Some(endpoint));
        }
    }
    chosen.map(Pick::of)
}
