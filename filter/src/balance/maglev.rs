//! Maglev: a table gives each key an endpoint, and the slots behind it give the next ones (LB-11).

use super::candidates::Candidates;
use super::rendezvous;
use super::turn::Pick;
use crate::cluster::tables::Slots;

/// Slots that are looked at; then a ranking is made, so that a pick is not the longer the more may not
/// be picked.
const SLOTS_MAX: usize = 32;

/// The first of the key's slots whose endpoint may be picked. When one may not be, its keys move, and
/// no others do.
pub fn pick(slots: &Slots, candidates: &Candidates<'_>) -> Option<Pick> {
    let members = candidates.pool.members().iter().map(|endpoint| {
        let endpoint = candidates.cluster.endpoint(*endpoint);
        endpoint.map_or((0, 1), |e| (e.load.key.0, e.weight.max(1)))
    });
    let size = candidates.cluster.balancing.table_size;
    let places = slots.places(candidates.key, size, members);
    let mut endpoints = places
        .take(SLOTS_MAX)
        .filter_map(|place| candidates.pool.at(place));
    let found = endpoints.find(|endpoint| candidates.is_eligible(*endpoint));
    found.map(Pick::of).or_else(|| rendezvous::pick(candidates))
}
