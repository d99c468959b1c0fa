//! Endpoints that are picked among themselves.

use std::cell::Cell;

use crate::base::random::SplitMix64;

/// Endpoints among which a policy picks, in the registry's order.
#[derive(Debug)]
pub struct Pool {
    members: Vec<u32>,
    /// Walker's alias table, Vose's construction; empty where all weights are equal.
    aliases: Vec<Alias>,
    /// Where round robin goes on.
    cursor: Cell<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Alias {
    /// Keep the place when a draw of 32 bits is below this.
    keep_below: u64,
    other: u32,
}

impl Pool {
    pub(super) fn new(members: &[(u32, u16)], seed: u32) -> Self {
        let first = members.first().map(|(_, weight)| *weight);
        let equal = members.iter().all(|(_, weight)| Some(*weight) == first);
        let weights: Vec<u64> = members
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .collect();
        let len = u32::try_from(members.len()).unwrap_or(u32::MAX);
        Pool {
            members: members.iter().map(|(index, _)| *index).collect(),
            aliases: if equal {
                Vec::new()
            } else {
                alias_table(&weights)
            },
            cursor: Cell::new(seed.checked_rem(len).unwrap_or(0)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether all weigh the same.
    pub fn is_even(&self) -> bool {
        self.aliases.is_empty()
    }

    /// All of them, in order.
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    /// The endpoint at a place of the pool.
    pub fn at(&self, place: u32) -> Option<u32> {
        usize::try_from(place)
            .ok()
            .and_then(|place| self.members.get(place))
            .copied()
    }

    /// Whether an endpoint is among them.
    pub fn contains(&self, endpoint: u32) -> bool {
        self.members.binary_search(&endpoint).is_ok()
    }

    /// The endpoints once around, from the cursor on, with their places.
    pub fn from_cursor(&self) -> impl Iterator<Item = (u32, u32)> {
        let len = self.len();
        let start = self.cursor.get();
        (0..len).filter_map(move |step| {
            let place = start.wrapping_add(step).checked_rem(len)?;
            Some((place, self.at(place)?))
        })
    }

    /// The next turn begins behind a place.
    pub fn turn_to_after(&self, place: u32) {
        self.cursor
            .set(place.wrapping_add(1).checked_rem(self.len()).unwrap_or(0));
    }

    /// A place drawn in proportion to the weights.
    pub fn draw_place(&self, rng: &mut SplitMix64) -> u32 {
        let place = rng.below(self.len());
        let alias = usize::try_from(place)
            .ok()
            .and_then(|place| self.aliases.get(place));
        match alias {
            Some(alias) if (rng.draw() >> 32) >= alias.keep_below => alias.other,
            _ => place,
        }
    }
}

/// Vose's alias method in whole numbers: place i is kept with probability weight × n / total, and
/// gives the rest of its draws to one other place.
fn alias_table(weights: &[u64]) -> Vec<Alias> {
    let count = u64::try_from(weights.len()).unwrap_or(u64::MAX);
    let total = weights
        .iter()
        .fold(0u64, |sum, weight| sum.saturating_add(*weight))
        .max(1);
    let mut scaled: Vec<u64> = weights.iter().map(|w| w.saturating_mul(count)).collect();
    let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let mut table: Vec<Alias> = (0..weights.len())
        .map(|i| Alias {
            keep_below: 1 << 32,
            other: place(i),
        })
        .collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|i| scaled.get(*i).is_some_and(|s| *s < total));
    while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
        let kept = scaled.get(poor).copied().unwrap_or(0);
        if let Some(alias) = table.get_mut(poor) {
            let share = (u128::from(kept) << 32)
                .checked_div(u128::from(total))
                .unwrap_or(0);
            alias.keep_below = u64::try_from(share).unwrap_or(1 << 32);
            alias.other = place(rich);
        }
        if let Some(left) = scaled.get_mut(rich) {
            *left = left.saturating_sub(total.saturating_sub(kept));
            if *left < total {
                large.pop();
                small.push(rich);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests;
