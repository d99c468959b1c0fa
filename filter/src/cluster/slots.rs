//! Maglev's table: a slot for every remainder of a key, each slot a member of the pool (Eisenbud et al.,
//! NSDI 2016, "Maglev: a fast and reliable software network load balancer").

use std::cell::OnceCell;

use crate::base::hash;

/// A slot that nobody has taken: no pool has so many members.
const FREE: u16 = u16::MAX;

/// The table of one pool, made when its first request comes: not where a configuration is only tried,
/// and not for clusters that nobody asks for.
#[derive(Debug, Default)]
pub struct Slots(OnceCell<Vec<u16>>);

impl Slots {
    /// The places of the pool that a key meets, the one that the table gives it first. The table, of so
    /// many slots, is made for these keys and weights, by place.
    pub fn places(
        &self,
        key: u64,
        size: u32,
        members: impl Iterator<Item = (u64, u16)>,
    ) -> impl Iterator<Item = u32> {
        let table = self
            .0
            .get_or_init(|| fill(&members.collect::<Vec<_>>(), size));
        let len = u64::try_from(table.len()).unwrap_or(u64::MAX);
        let start = usize::try_from(key.checked_rem(len).unwrap_or(0)).unwrap_or(0);
        let (before, from) = table.split_at_checked(start).unwrap_or_default();
        from.iter().chain(before).map(|place| u32::from(*place))
    }
}

/// A member while the table is filled.
struct Member {
    place: u16,
    weight: u32,
    /// The slot that it asks for next, and the step to the one after that.
    next: usize,
    step: usize,
    /// How many slots it has.
    has: u32,
}

/// A table of so many slots, a prime, for members of these keys and weights. In rounds of as many slots
/// as there are members each takes its share of the slots so far, one after the other, in the order in
/// which it asks for them. The order of the members does not matter.
fn fill(members: &[(u64, u16)], size: u32) -> Vec<u16> {
    let size = usize::try_from(size).unwrap_or(0);
    let mut order: Vec<(u64, u32)> = members.iter().map(|(key, _)| *key).zip(0..).collect();
    hash::sort(&mut order);
    let of = |(key, place): (u64, u32)| {
        let place = usize::try_from(place).ok()?;
        let weight = members.get(place)?.1;
        let step = remainder(hash::draw(key, 2), size.saturating_sub(1));
        Some(Member {
            place: u16::try_from(place).unwrap_or(FREE),
            weight: u32::from(weight),
            next: remainder(hash::draw(key, 1), size),
            step: step.saturating_add(1),
            has: 0,
        })
    };
    let mut order: Vec<Member> = order.into_iter().filter_map(of).collect();
    let total = order
        .iter()
        .fold(0u64, |sum, m| sum.saturating_add(m.weight.into()));
    let (count, all) = (members.len() as u64, size as u64);
    let mut slots = vec![FREE; size];
    let mut left = slots.len();
    let mut filled: u64 = 0;
    while left > 0 && total > 0 {
        filled = filled.saturating_add(count);
        for member in &mut order {
            let due = filled.min(all).saturating_mul(member.weight.into());
            // In the last round whoever is due a part of a slot takes a whole one.
            let round_up = if filled < all {
                0
            } else {
                total.saturating_sub(1)
            };
            let due = due.saturating_add(round_up).checked_div(total);
            while u64::from(member.has) < due.unwrap_or(0) && left > 0 {
                member.take(&mut slots);
                left = left.saturating_sub(1);
            }
        }
    }
    slots
}

impl Member {
    /// Takes the next slot that is free, of which there is one.
    fn take(&mut self, slots: &mut [u16]) {
        for _ in 0..slots.len() {
            let slot = self.next;
            let next = slot.saturating_add(self.step);
            self.next = next.checked_sub(slots.len()).unwrap_or(next);
            if let Some(slot) = slots.get_mut(slot).filter(|slot| **slot == FREE) {
                *slot = self.place;
                self.has = self.has.saturating_add(1);
                return;
            }
        }
    }
}

fn remainder(hash: u64, of: usize) -> usize {
    let of = u64::try_from(of).unwrap_or(u64::MAX);
    usize::try_from(hash.checked_rem(of).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn members(weights: &[u16]) -> Vec<(u64, u16)> {
        let keys = (0..).map(|place: u64| hash::text_key(&place.to_le_bytes()));
        keys.zip(weights.iter().copied()).collect()
    }

    /// How many slots each member has.
    fn counts(weights: &[u16], size: u32) -> Vec<u32> {
        let mut counts = vec![0; weights.len()];
        for place in fill(&members(weights), size) {
            counts[usize::from(place)] += 1;
        }
        counts
    }

    #[test]
    fn lb_11_every_slot_is_a_members_in_proportion_to_the_weights() {
        let light_and_heavy = [vec![u16::MAX], vec![1; 2000]].concat();
        for (weights, size) in [
            (vec![100; 7], 251),
            (vec![1, 2, 3, 4], 65_537),
            (light_and_heavy, 65_537),
            (vec![5], 2),
            (vec![7; 5], 3),
            (vec![u16::MAX, u16::MAX, 1], 524_287),
        ] {
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let counts = counts(&weights, size);
            assert_eq!(counts.iter().sum::<u32>(), size);
            for (count, weight) in counts.iter().zip(&weights) {
                let due = f64::from(size) * f64::from(*weight) / total;
                assert!((f64::from(*count) - due).abs() < 2.0, "{count} of {due}");
            }
        }
        assert_eq!(fill(&[], 251), vec![FREE; 251]);
    }

    #[test]
    fn lb_11_the_order_of_the_members_does_not_matter() {
        let forth = members(&[1, 2, 3, 4, 5]);
        let back: Vec<(u64, u16)> = forth.iter().rev().copied().collect();
        let mirrored = fill(&back, 251).into_iter().map(|place| 4 - place);
        assert!(fill(&forth, 251).into_iter().eq(mirrored));
    }
}
