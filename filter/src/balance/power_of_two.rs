//! Power of two: two distinct endpoints drawn evenly, the less loaded per weight wins, a tie is a
//! coin weighted like the two (LB-8).

use std::cmp::Ordering;

use super::candidates::{Candidates, compare};
use super::list::List;
use super::turn::Pick;
use crate::base::random::SplitMix64;

/// A pool of so many at most is looked through at once: that costs no more than drawing twice.
const SMALL_MAX: usize = 8;

/// Two endpoints; one where there is no other.
type Pair = (u32, Option<u32>);

/// The better of two.
pub fn pick(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let pair = two_distinct(candidates, rng)?;
    Some(Pick::of(better(candidates, pair, rng)))
}

/// Adds the next best until the list is as long as the cluster has attempts. Those of a small pool
/// that may be picked are looked up once for all.
pub fn extend(list: &mut List, candidates: &Candidates<'_>, rng: &mut SplitMix64) {
    let attempts = candidates.cluster.retry.attempts;
    let taken = *list;
    if let Some(mut small) = SmallPool::of(&candidates.without(taken.entries())) {
        while list.len() < attempts
            && let Some(pair) = small.two_distinct(rng)
        {
            let next = better(candidates, pair, rng);
            small.remove(next);
            list.push(next);
        }
        return;
    }
    while list.len() < attempts {
        let taken = *list;
        let Some(pair) = two_drawn(&candidates.without(taken.entries()), rng) else {
            return;
        };
        list.push(better(candidates, pair, rng));
    }
}

/// The better of two; the only one of one.
#[inline]
fn better(candidates: &Candidates<'_>, (first, second): Pair, rng: &mut SplitMix64) -> u32 {
    let Some(second) = second else {
        return first;
    };
    let metric = candidates.cluster.balancing.metric;
    let (w1, w2) = (candidates.weight(first), candidates.weight(second));
    match compare(
        (candidates.cost(first, metric), w1),
        (candidates.cost(second, metric), w2),
    ) {
        Ordering::Less => first,
        Ordering::Greater => second,
        Ordering::Equal if rng.below(w1.saturating_add(w2)) < w1 => first,
        Ordering::Equal => second,
    }
}

fn two_distinct(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pair> {
    let len = candidates.pool.len();
    if candidates.all_are_eligible() && len > 1 {
        let (first, second) = two_below(len, rng);
        return Some((candidates.pool.at(first)?, candidates.pool.at(second)));
    }
    match SmallPool::of(candidates) {
        Some(small) => small.two_distinct(rng),
        None => two_drawn(candidates, rng),
    }
}

fn two_drawn(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pair> {
    let len = candidates.pool.len();
    let mut draw = |beside| candidates.draw(beside, rng, |rng| rng.below(len), |_| 1);
    let first = draw(None)?;
    Some((first, draw(Some(first))))
}

/// Those of a small pool that may be picked.
struct SmallPool {
    open: [u32; SMALL_MAX],
    len: u32,
}

impl SmallPool {
    /// `None` for a larger pool.
    fn of(candidates: &Candidates<'_>) -> Option<Self> {
        let members = candidates.pool.members();
        if members.len() > SMALL_MAX {
            return None;
        }
        let mut small = SmallPool {
            open: [0; SMALL_MAX],
            len: 0,
        };
        for (place, endpoint) in small.open.iter_mut().zip(candidates.eligible()) {
            *place = endpoint;
            small.len = small.len.saturating_add(1);
        }
        Some(small)
    }

    fn at(&self, place: u32) -> Option<u32> {
        let place = usize::try_from(place).ok()?;
        self.open.get(place).copied()
    }

    /// The last takes its place.
    fn remove(&mut self, endpoint: u32) {
        let last = self.len.saturating_sub(1);
        let Some(moved) = self.at(last) else { return };
        if let Some(place) = self.open.iter_mut().find(|open| **open == endpoint) {
            *place = moved;
            self.len = last;
        }
    }

    fn two_distinct(&self, rng: &mut SplitMix64) -> Option<Pair> {
        match self.len {
            0 => None,
            1 => Some((self.at(0)?, None)),
            len => {
                let (first, second) = two_below(len, rng);
                Some((self.at(first)?, self.at(second)))
            }
        }
    }
}

/// Two distinct places below `len`, which is 2 at least.
fn two_below(len: u32, rng: &mut SplitMix64) -> (u32, u32) {
    let first = rng.below(len);
    let other = rng.below(len.saturating_sub(1));
    let second = other.saturating_add(u32::from(other >= first));
    (first, second)
}
