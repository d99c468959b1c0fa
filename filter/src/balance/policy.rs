//! The policies, by the table that each has compiled. A new one is a name in
//! [`crate::config::Policy`], a table in [`crate::cluster::tables`], a file beside this, and a line in
//! each of these functions.
//!
//! Weights are honoured by every policy, ties are spread, and nothing is allocated. PowerOfTwo and
//! Random draw places and try again where one may not be picked, so that a pick costs the same for
//! three endpoints and for ten thousand; only when most draws are in vain they look at all. Rendezvous
//! and Maglev draw nothing: the request's key decides.

use super::candidates::Candidates;
use super::list::List;
use super::turn::{Pick, Turn};
use super::{least_loaded, maglev, power_of_two, random, rendezvous, round_robin, tiered};
use crate::base::random::SplitMix64;
use crate::cluster::tables::Table;

/// The endpoint that the cluster's policy picks, with its turn; `None` when none may be picked.
pub fn pick(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    if candidates.pool.is_empty() {
        return None;
    }
    match candidates.pool.table() {
        Table::InTurn(_) if candidates.ramp.is_some() => round_robin::smooth(candidates),
        Table::InTurn(cursor) => round_robin::in_turn(cursor, candidates),
        Table::Smooth => round_robin::smooth(candidates),
        Table::Random(shares) => random::pick(shares, candidates, rng),
        Table::LeastLoaded => least_loaded::pick(candidates, rng),
        Table::PowerOfTwo(shares) => power_of_two::pick(shares, candidates, rng),
        Table::Tiered => tiered::pick(candidates, rng),
        Table::Rendezvous => rendezvous::pick(candidates),
        Table::Maglev(slots) => maglev::pick(slots, candidates),
    }
}

/// Takes a pick's turn for good, among the candidates that it was picked from.
pub fn commit(candidates: &Candidates<'_>, pick: Pick) {
    match (pick.turn, candidates.pool.table()) {
        (Turn::Cursor(place), Table::InTurn(cursor)) => {
            let place = u32::try_from(place).unwrap_or(0);
            cursor.turn_to_after(place, candidates.pool.len());
        }
        (Turn::Smooth(total), _) => round_robin::commit_smooth(candidates, pick.endpoint, total),
        (Turn::Last(number), _) => tiered::commit(candidates, pick.endpoint, number),
        _ => {}
    }
}

/// Adds the next best of a pool until the list is as long as the cluster has attempts.
pub fn extend(list: &mut List, candidates: &Candidates<'_>, rng: &mut SplitMix64) {
    let attempts = candidates.cluster.retry.attempts;
    if list.len() >= attempts || candidates.pool.is_empty() {
        return;
    }
    match candidates.pool.table() {
        Table::PowerOfTwo(shares) => return power_of_two::extend(list, shares, candidates, rng),
        Table::LeastLoaded => return least_loaded::extend(list, candidates, rng),
        _ => {}
    }
    while list.len() < attempts {
        let taken = *list;
        let Some(next) = pick(&candidates.without(taken.entries()), rng) else {
            break;
        };
        list.push(next.endpoint);
    }
}
