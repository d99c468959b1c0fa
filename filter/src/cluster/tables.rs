//! What a policy compiles for a pool: only the policy that needs a table builds one.

use std::cell::Cell;

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
    Random(Aliases),
    /// Least loaded.
    LeastLoaded,
    /// Power of two.
    PowerOfTwo,
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
            Policy::Random if even => Table::Random(Aliases::default()),
            Policy::Random => Table::Random(Aliases::new(weights)),
            Policy::LeastLoaded => Table::LeastLoaded,
            Policy::PowerOfTwo => Table::PowerOfTwo,
        }
    }
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

/// Walker's alias table, Vose's construction; empty where all weights are equal.
#[derive(Debug, Default)]
pub struct Aliases(Vec<Alias>);

#[derive(Debug, Clone, Copy)]
struct Alias {
    /// Keep the place when a draw of 32 bits is below this.
    keep_below: u64,
    other: u32,
}

impl Aliases {
    /// Vose's alias method in whole numbers: place i is kept with probability weight × n / total,
    /// and gives the rest of its draws to one other place.
    fn new(weights: &[u16]) -> Self {
        let count = u64::try_from(weights.len()).unwrap_or(u64::MAX);
        let weights = weights.iter().map(|weight| u64::from(*weight));
        let total = weights.clone().fold(0u64, u64::saturating_add).max(1);
        let mut scaled: Vec<u64> = weights.map(|w| w.saturating_mul(count)).collect();
        let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let mut table: Vec<Alias> = (0..scaled.len())
            .map(|i| Alias {
                keep_below: 1 << 32,
                other: place(i),
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..scaled.len()).partition(|i| scaled.get(*i).is_some_and(|s| *s < total));
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
        Aliases(table)
    }

    /// A place below `len` in proportion to the weights.
    pub fn draw(&self, len: u32, rng: &mut SplitMix64) -> u32 {
        let place = rng.below(len);
        let alias = usize::try_from(place)
            .ok()
            .and_then(|place| self.0.get(place));
        match alias {
            Some(alias) if (rng.draw() >> 32) >= alias.keep_below => alias.other,
            _ => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Adds up what every place keeps and is given, and checks it against the weights: one unit of
    /// 2⁻³² per place may be lost to rounding.
    fn check(weights: &[u16]) {
        let Aliases(table) = Aliases::new(weights);
        let count = weights.len();
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut shares = vec![0u64; count];
        for (place, alias) in table.iter().enumerate() {
            assert!(alias.keep_below <= 1 << 32);
            shares[place] += alias.keep_below;
            shares[alias.other as usize] += (1 << 32) - alias.keep_below;
        }
        for (share, weight) in shares.iter().zip(weights) {
            let exact = (u128::from(*weight) * count as u128) << 32;
            let exact = u64::try_from(exact / u128::from(total)).unwrap();
            assert!(
                share.abs_diff(exact) <= count as u64,
                "{weights:?}: {share} for {weight}"
            );
        }
    }

    #[test]
    fn aliases_give_every_weight_its_share() {
        check(&[1]);
        check(&[7, 7, 7]);
        check(&[3, 1]);
        check(&[1, 2, 3, 4, 5, 6, 7]);
        check(&[65_535, 1]);
        check(&[65_535, 1, 1, 1, 65_535, 2]);
        let mut rng = SplitMix64::new(3);
        for count in [2, 10, 999, 20_000] {
            let weights = (0..count).map(|_| rng.between(1, 65_535) as u16);
            check(&weights.collect::<Vec<u16>>());
        }
    }

    #[test]
    fn only_a_policy_that_needs_a_table_builds_one() {
        let table = |policy, weights: &[u16]| Table::compile(policy, weights, 0);
        assert!(matches!(table(Policy::RoundRobin, &[3, 1]), Table::Smooth));
        assert!(matches!(
            table(Policy::PowerOfTwo, &[3, 1]),
            Table::PowerOfTwo
        ));
        for (weights, entries) in [(&[7, 7][..], 0), (&[7, 1], 2)] {
            let Table::Random(Aliases(aliases)) = table(Policy::Random, weights) else {
                panic!("random");
            };
            assert_eq!(aliases.len(), entries);
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
