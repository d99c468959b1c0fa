//! Round robin: in turn where all weigh the same, else smooth and weighted (LB-1, LB-2).

use super::candidates::Candidates;
use super::turn::{Pick, Turn};
use crate::cluster::EndpointIndex;
use crate::cluster::tables::Cursor;

/// The next one from the cursor on.
pub fn in_turn(cursor: &Cursor, candidates: &Candidates<'_>) -> Option<Pick> {
    let places = cursor.places(candidates.pool.len());
    places
        .filter_map(|place| Some((place, candidates.pool.at(place)?)))
        .find(|(_, endpoint)| candidates.is_eligible(*endpoint))
        .map(|(place, endpoint)| Pick {
            endpoint,
            turn: Turn::Cursor(place.into()),
        })
}

/// Smooth weighted round robin (LB-2): every candidate's running weight grows by its weight, the
/// highest is picked and pays the sum back; weights 5, 1, 1 give a a b a c a a.
///
/// Among the same candidates no running weight leaves ±sum. One that does stems from heavier
/// weights or candidates, and would decide alone for thousands of picks.
pub fn smooth(candidates: &Candidates<'_>) -> Option<Pick> {
    let total = sum(candidates);
    let mut best: Option<(i64, EndpointIndex)> = None;
    for endpoint in candidates.eligible() {
        let running = grown(candidates, endpoint, total);
        if best.is_none_or(|(highest, _)| running > highest) {
            best = Some((running, endpoint));
        }
    }
    best.map(|(_, endpoint)| Pick {
        endpoint,
        turn: Turn::Smooth(total),
    })
}

/// Takes a smooth turn for good.
pub fn commit_smooth(candidates: &Candidates<'_>, picked: EndpointIndex, total: i64) {
    for endpoint in candidates.eligible() {
        let grown = grown(candidates, endpoint, total);
        let paid = if endpoint == picked { total } else { 0 };
        if let Some(load) = candidates.cluster.endpoint(endpoint).map(|e| &e.load) {
            load.turn.set(Some(grown.saturating_sub(paid)));
        }
    }
}

fn sum(candidates: &Candidates<'_>) -> i64 {
    let weights = candidates.eligible().map(|e| candidates.weight(e));
    weights.fold(0, |sum, weight| sum.saturating_add(weight.into()))
}

/// An endpoint's running weight with one more turn of candidates that weigh `total`.
fn grown(candidates: &Candidates<'_>, endpoint: EndpointIndex, total: i64) -> i64 {
    let weight = i64::from(candidates.weight(endpoint));
    let load = candidates.cluster.endpoint(endpoint).map(|e| &e.load);
    let mut running = load.and_then(|load| load.turn.get()).unwrap_or(0);
    let within = |running: i64, total: i64| running.clamp(total.saturating_neg(), total);
    if let Turn::Smooth(pending) = candidates.pending {
        running = within(running, pending).saturating_add(weight);
    }
    within(running, total).saturating_add(weight)
}
