//! Power of two: two distinct endpoints drawn by weight; the second wins where it is no more loaded per
//! weight with this request than the first is without it (LB-8).
//!
//! So weights are shares: drawing evenly would cap everybody at 2/n, and comparing loads alone would
//! favour the light ones while few requests run. Of equal weights the less loaded wins, as ever.

use super::candidates::{Candidates, compare};
use super::list::List;
use super::turn::Pick;
use crate::base::random::SplitMix64;
use crate::cluster::EndpointIndex;
use crate::cluster::pool::Pool;
use crate::cluster::tables::Shares;

/// A pool of so many at most is looked through at once: that costs no more than drawing twice.
const SMALL_MAX: usize = 8;

/// Two endpoints; one where there is no other.
type Pair = (EndpointIndex, Option<EndpointIndex>);

/// The better of two.
pub fn pick(shares: &Shares, candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pick> {
    let pool = candidates.pool;
    if candidates.all_are_eligible() && pool.len() > 1 {
        let first = shares.draw(pool.len(), rng);
        let second = shares.draw_another(pool.len(), first, rng);
        return Some(Pick::of(better(
            candidates,
            pool.at(first)?,
            pool.at(second),
        )));
    }
    let (first, second) = match is_small(pool) {
        true => {
            let mut small = SmallPool::default();
            small.fill(shares, candidates, &[]);
            small.two_distinct(rng)
        }
        false => two_drawn(shares, candidates, rng),
    }?;
    Some(Pick::of(better(candidates, first, second)))
}

/// Adds the next best until the list is as long as the cluster has attempts. Those of a small pool
/// that may be picked are looked up once for all.
pub fn extend(list: &mut List, shares: &Shares, candidates: &Candidates<'_>, rng: &mut SplitMix64) {
    let attempts = candidates.cluster.retry.attempts;
    if is_small(candidates.pool) {
        let mut small = SmallPool::default();
        small.fill(shares, candidates, list.entries());
        while list.len() < attempts
            && let Some((first, second)) = small.two_distinct(rng)
        {
            let next = better(candidates, first, second);
            small.remove(next);
            list.push(next);
        }
        return;
    }
    while list.len() < attempts {
        let taken = *list;
        let pair = two_drawn(shares, &candidates.without(taken.entries()), rng);
        let Some((first, second)) = pair else {
            return;
        };
        list.push(better(candidates, first, second));
    }
}

/// The better of two; the only one of one. A tie goes to the first, which is drawn by weight.
#[inline]
fn better(
    candidates: &Candidates<'_>,
    first: EndpointIndex,
    second: Option<EndpointIndex>,
) -> EndpointIndex {
    let Some(second) = second else {
        return first;
    };
    let metric = candidates.cluster.balancing.metric;
    let weights = (candidates.weight(first), candidates.weight(second));
    let costs = (
        candidates.cost(first, metric),
        candidates.cost(second, metric),
    );
    let second_wins = if metric.is_time() {
        // A time counts this request for both already.
        compare((costs.1, weights.1), (costs.0, weights.0)).is_lt()
    } else {
        compare((costs.1 + 1.0, weights.1), (costs.0, weights.0)).is_le()
    };
    if second_wins { second } else { first }
}

fn two_drawn(shares: &Shares, candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pair> {
    let pool = candidates.pool;
    let weight = |endpoint| candidates.weight(endpoint);
    let draw = |rng: &mut SplitMix64| shares.draw(pool.len(), rng);
    let Some(first) = candidates.draw_places(None, rng, draw) else {
        return candidates.search(None, rng, weight);
    };
    if shares.are_even() {
        return Some((first, candidates.draw(Some(first), rng, draw, weight)));
    }
    // One that outweighs all others would be drawn again and again.
    let place = pool.place_of(first)?;
    let draw_another = |rng: &mut SplitMix64| shares.draw_another(pool.len(), place, rng);
    Some((
        first,
        candidates.draw(Some(first), rng, draw_another, weight),
    ))
}

fn is_small(pool: &Pool) -> bool {
    pool.members().len() <= SMALL_MAX
}

/// Those of a small pool that may be picked, with their weights.
#[derive(Default)]
struct SmallPool {
    open: [(EndpointIndex, u32); SMALL_MAX],
    len: usize,
    /// The sum of the weights; 0 where all are equal.
    total: u32,
}

impl SmallPool {
    /// Takes in those that may be picked, but for the `taken`; where it stands, because moving it costs as
    /// much as a draw.
    fn fill(&mut self, shares: &Shares, candidates: &Candidates<'_>, taken: &[EndpointIndex]) {
        let eligible = candidates.eligible().filter(|it| !taken.contains(it));
        for (place, endpoint) in self.open.iter_mut().zip(eligible) {
            let weight = match shares.are_even() && candidates.ramp.is_none() {
                true => 0,
                false => candidates.weight(endpoint),
            };
            *place = (endpoint, weight);
            self.total = self.total.saturating_add(weight);
            self.len = self.len.saturating_add(1);
        }
    }

    fn at(&self, place: usize) -> Option<EndpointIndex> {
        self.open.get(place).map(|(endpoint, _)| *endpoint)
    }

    /// The last takes its place.
    fn remove(&mut self, endpoint: EndpointIndex) {
        let last = self.len.saturating_sub(1);
        let Some(moved) = self.open.get(last).copied() else {
            return;
        };
        if let Some(place) = self.open.iter_mut().find(|open| open.0 == endpoint) {
            self.total = self.total.saturating_sub(place.1);
            *place = moved;
            self.len = last;
        }
    }

    fn two_distinct(&self, rng: &mut SplitMix64) -> Option<Pair> {
        match self.len {
            0 => None,
            1 => Some((self.at(0)?, None)),
            len if self.total == 0 => {
                let len = u32::try_from(len).ok()?;
                let (even, at) = (Shares::default(), |place| {
                    self.at(usize::try_from(place).ok()?)
                });
                let first = even.draw(len, rng);
                Some((at(first)?, at(even.draw_another(len, first, rng))))
            }
            _ => {
                let (first, weight) = self.draw(None, self.total, rng)?;
                let second = self.draw(Some(first), self.total.saturating_sub(weight), rng);
                Some((first, second.map(|(endpoint, _)| endpoint)))
            }
        }
    }

    /// One by weight, but for `beside`; the weights of all others sum up to `total`.
    fn draw(
        &self,
        beside: Option<EndpointIndex>,
        total: u32,
        rng: &mut SplitMix64,
    ) -> Option<(EndpointIndex, u32)> {
        let mut left = rng.below(total);
        let others = self.open.iter().take(self.len);
        for open in others.filter(|(endpoint, _)| Some(*endpoint) != beside) {
            match left.checked_sub(open.1) {
                None => return Some(*open),
                Some(less) => left = less,
            }
        }
        None
    }
}
