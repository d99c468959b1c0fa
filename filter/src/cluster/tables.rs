//! What a policy compiles for a pool: only the policy that needs a table builds one.

use std::cell::Cell;

pub use super::slots::Slots;
use crate::base::random::SplitMix64;
use crate::config::Policy;

/// A policy's data for one pool.
#[derive(Debug)]
pub enum Table {
    /// Round robin among equal weights.
    InTurn(Cursor),
    /// Round robin among others; the running weights stand with the loads.
    Smooth,
    /// Random.
    Random(Shares),
    /// Least loaded.
    LeastLoaded,
    /// Power of two.
    PowerOfTwo(Shares),
    /// Tiered: what it knows stands with the loads.
    Tiered,
    /// Rendezvous: all that it needs stands with the endpoints.
    Rendezvous,
    /// Maglev.
    Maglev(Slots),
}

impl Table {
    /// The table of a policy for members of these weights. `seed` is where round robin starts, so
    /// that workers that start together do not turn together.
    pub fn compile(policy: Policy, weights: &[u16], seed: u32) -> Self {
        let first = weights.first();
        let even = weights.iter().all(|weight| Some(weight) == first);
        match policy {
            Policy::RoundRobin if even => Table::InTurn(Cursor::new(weights.len(), seed)),
            Policy::RoundRobin => Table::Smooth,
            Policy::Random => Table::Random(Shares::of(weights, even)),
            Policy::LeastLoaded => Table::LeastLoaded,
            Policy::PowerOfTwo => Table::PowerOfTwo(Shares::of(weights, even)),
            Policy::Tiered => Table::Tiered,
            Policy::Rendezvous => Table::Rendezvous,
            Policy::Maglev => Table::Maglev(Slots::default()),
        }
    }
}

/// Most running weights that are moved to find where smooth weighted round robin starts.
const MOVED_MAX: u32 = 100_000;

/// The running weights of smooth weighted round robin after some of the turns of a round: `seed` says
/// after how many.
pub(super) fn running_weights(weights: &[u16], seed: u32) -> Vec<i64> {
    let each = weights.iter().map(|weight| u32::from(*weight));
    let total = each.fold(0, u32::saturating_add);
    let count = u32::try_from(weights.len()).unwrap_or(u32::MAX);
    let turns_max = MOVED_MAX
        .checked_div(count)
        .unwrap_or(0)
        .clamp(1, total.max(1));
    let mut running = vec![0i64; weights.len()];
    for _ in 0..seed.checked_rem(turns_max).unwrap_or(0) {
        let mut best: Option<&mut i64> = None;
        for (running, weight) in running.iter_mut().zip(weights) {
            *running = running.saturating_add(i64::from(*weight));
            if best.as_ref().is_none_or(|best| *running > **best) {
                best = Some(running);
            }
        }
        if let Some(best) = best {
            *best = best.saturating_sub(i64::from(total));
        }
    }
    running
}

/// Where round robin goes on.
#[derive(Debug)]
pub struct Cursor(Cell<u32>);

impl Cursor {
    fn new(len: usize, seed: u32) -> Self {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Cursor(Cell::new(seed.checked_rem(len).unwrap_or(0)))
    }

    /// The places of a pool of so many, once around.
    pub fn places(&self, len: u32) -> impl Iterator<Item = u32> + use<> {
        let start = self.0.get();
        (0..len).filter_map(move |step| start.wrapping_add(step).checked_rem(len))
    }

    /// The next turn begins behind a place.
    pub fn turn_to_after(&self, place: u32, len: u32) {
        let next = place.wrapping_add(1).checked_rem(len);
        self.0.set(next.unwrap_or(0));
    }
}

/// Draws places in proportion to their weights: where the interval of each place ends when the intervals
/// of all lie side by side. Empty where all weights are equal.
#[derive(Debug, Default)]
pub struct Shares(Vec<u32>);

impl Shares {
    fn of(weights: &[u16], even: bool) -> Self {
        if even {
            return Shares::default();
        }
        let ends = weights.iter().scan(0u32, |end, weight| {
            *end = end.saturating_add(u32::from(*weight));
            Some(*end)
        });
        Shares(ends.collect())
    }

    /// Whether all weights are equal.
    pub fn are_even(&self) -> bool {
        self.0.is_empty()
    }

    /// A place below `len`.
    pub fn draw(&self, len: u32, rng: &mut SplitMix64) -> u32 {
        match self.0.last() {
            None => rng.below(len),
            Some(total) => self.place_of(rng.below(*total)),
        }
    }

    /// Another place than `first`, in proportion to the weights of all others. `len` is 2 at least.
    pub fn draw_another(&self, len: u32, first: u32, rng: &mut SplitMix64) -> u32 {
        let Some(total) = self.0.last() else {
            let other = rng.below(len.saturating_sub(1));
            return other.saturating_add(u32::from(other >= first));
        };
        let end_of = |place: u32| {
            let place = usize::try_from(place).ok();
            place
                .and_then(|place| self.0.get(place))
                .copied()
                .unwrap_or(0)
        };
        // The draw is among what is left without the interval of the first.
        let start = first.checked_sub(1).map_or(0, end_of);
        let width = end_of(first).saturating_sub(start);
        let drawn = rng.below(total.saturating_sub(width));
        let shift = if drawn < start { 0 } else { width };
        self.place_of(drawn.saturating_add(shift))
    }

    fn place_of(&self, drawn: u32) -> u32 {
        let place = self.0.partition_point(|end| *end <= drawn);
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// How often each place comes when every number below the bound is drawn once.
    fn counts(len: usize, bound: u32, place_of: impl Fn(u32) -> u32) -> Vec<u32> {
        let mut counts = vec![0; len];
        (0..bound).for_each(|drawn| counts[place_of(drawn) as usize] += 1);
        counts
    }

    #[test]
    fn every_place_has_the_share_of_its_weight() {
        for weights in [
            &[3u16, 1][..],
            &[1, 2, 3, 4, 5, 6, 7],
            &[65_535, 1, 1, 65_535, 2],
        ] {
            let shares = Shares::of(weights, false);
            let total = *shares.0.last().unwrap();
            let counts = counts(weights.len(), total, |drawn| shares.place_of(drawn));
            let wanted: Vec<u32> = weights.iter().map(|weight| u32::from(*weight)).collect();
            assert_eq!(counts, wanted);
        }
    }

    #[test]
    fn another_place_comes_in_proportion_to_all_others() {
        let mut rng = SplitMix64::new(3);
        for (weights, even) in [(&[4u16, 1, 3, 2][..], false), (&[2, 2, 2, 2], true)] {
            let shares = Shares::of(weights, even);
            for first in 0..4u32 {
                let others: u32 = weights.iter().map(|w| u32::from(*w)).sum::<u32>()
                    - u32::from(weights[first as usize]);
                let mut counts = [0u32; 4];
                for _ in 0..10_000 {
                    counts[shares.draw_another(4, first, &mut rng) as usize] += 1;
                }
                assert_eq!(counts[first as usize], 0, "{weights:?}");
                for (place, weight) in weights.iter().enumerate() {
                    let due = 10_000 * u32::from(*weight) / others;
                    let off = counts[place].abs_diff(due);
                    assert!(
                        place as u32 == first || off < 250,
                        "{weights:?}: {counts:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_a_policy_that_needs_a_table_builds_one() {
        let table = |policy, weights: &[u16]| Table::compile(policy, weights, 0);
        assert!(matches!(table(Policy::RoundRobin, &[3, 1]), Table::Smooth));
        for policy in [Policy::Random, Policy::PowerOfTwo] {
            for (weights, entries) in [(&[7, 7][..], 0), (&[7, 1], 2)] {
                let (Table::Random(shares) | Table::PowerOfTwo(shares)) = table(policy, weights)
                else {
                    panic!("{policy:?}");
                };
                assert_eq!(shares.0.len(), entries);
            }
        }
    }

    #[test]
    fn the_cursor_goes_around_from_any_start() {
        for seed in [0, 1, 2, 3, u32::MAX] {
            let cursor = Cursor::new(3, seed);
            let mut around: Vec<u32> = cursor.places(3).collect();
            assert_eq!(around[0], seed % 3);
            around.sort_unstable();
            assert_eq!(around, [0, 1, 2]);
            cursor.turn_to_after(2, 3);
            assert_eq!(cursor.places(3).next(), Some(0));
        }
        let none = Cursor::new(0, 9);
        none.turn_to_after(3, 0);
        assert_eq!(none.places(0).count(), 0);
    }
}
