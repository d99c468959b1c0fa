//! Rendezvous, or highest random weight: every key ranks all endpoints, and the first that may be
//! picked serves (LB-10).
//!
//! An endpoint draws a number for each key, and its weight multiplies its chances: the least −ln(u) / w
//! of even draws u wins in proportion to the weights w (Schindelhauer and Schomaker, 2005). Nothing an
//! endpoint draws depends on the others, so one that comes or goes moves its own keys alone.

use super::candidates::{Candidates, compare};
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
            weight: compiled.weight.max(1),
        };
        // What is held against it is asked of one that leads alone.
        if best.is_none_or(|best| this.beats(best)) && candidates.is_eligible(endpoint) {
            (best, chosen) = (Some(this), Some(endpoint));
        }
    }
    chosen.map(Pick::of)
}

/// What an endpoint has drawn for a key.
#[derive(Clone, Copy)]
struct Lot {
    draw: u64,
    weight: u16,
}

impl Lot {
    fn beats(self, other: Lot) -> bool {
        // Mostly no logarithm is needed.
        if self.draw <= other.draw && self.weight <= other.weight {
            return false;
        }
        if self.draw > other.draw && self.weight >= other.weight {
            return true;
        }
        compare(self.cost(), other.cost()).is_lt()
    }

    /// The cost, and the weight by which it is divided.
    fn cost(self) -> (f64, u32) {
        // 53 bits, the middle of an interval each: neither 0 nor 1.
        let even = ((self.draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (-even.ln(), u32::from(self.weight))
    }
}
