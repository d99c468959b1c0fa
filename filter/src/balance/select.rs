//! Picks one endpoint of a pool by a policy.
//!
//! Weights are honoured by every policy, ties are spread, and nothing is allocated. PowerOfTwo and
//! Random draw places and try again where somebody may not be picked, so that a pick costs the same
//! for three endpoints and for ten thousand; only when most draws are in vain they look at all.

use super::list::{LIST_MAX, List};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::pool::Pool;
use crate::config::{Metric, Policy};
use crate::gates::standing::Admit;
use crate::gates::view::GatesView;

/// Draws in vain after which a pool is looked through instead.
const DRAWS_MAX: u32 = 8;
/// A pool of so many at most is looked through at once: that costs no more than drawing twice.
const SMALL_MAX: usize = 8;

/// The pool of one pick and who of it may be picked.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    /// The cluster of the pool.
    pub cluster: &'a Cluster,
    /// The pool.
    pub pool: &'a Pool,
    /// What is held against its endpoints.
    pub gates: &'a GatesView,
    /// Which of them may be picked.
    pub admit: Admit,
    /// Endpoints that stand in the list already.
    pub taken: &'a [u32],
    /// Wall clock.
    pub now: WallTime,
}

/// Whether a pick moves the policy's own bookkeeping on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The pick that the policy is charged for.
    Take,
    /// A look at who would be next, for the rest of a list.
    Peek,
}

impl Candidates<'_> {
    fn is_eligible(&self, endpoint: u32) -> bool {
        !self.taken.contains(&endpoint)
            && self.admit.admits(self.gates.standing(endpoint, self.now))
    }

    fn eligible(&self) -> impl Iterator<Item = u32> {
        self.pool
            .members()
            .iter()
            .copied()
            .filter(|endpoint| self.is_eligible(*endpoint))
    }

    /// How many may be picked; as fast as few are held back.
    fn count_eligible(&self) -> u32 {
        let held = self.gates.endpoints().filter(|e| !self.taken.contains(e));
        let closed = held
            .filter(|e| self.pool.contains(*e))
            .filter(|e| !self.admit.admits(self.gates.standing(*e, self.now)));
        let taken = self.taken.iter().filter(|e| self.pool.contains(**e));
        let out = closed.count().saturating_add(taken.count());
        self.pool
            .len()
            .saturating_sub(u32::try_from(out).unwrap_or(u32::MAX))
    }

    /// Weight 0 counts as 1 where only such are left: all 0 is even.
    fn weight(&self, endpoint: u32) -> u32 {
        self.cluster
            .endpoint(endpoint)
            .map_or(1, |e| u32::from(e.weight).max(1))
    }

    fn cost(&self, endpoint: u32, metric: Metric) -> f64 {
        self.cluster
            .endpoint(endpoint)
            .map_or(0.0, |e| e.load.cost(metric, self.now))
    }
}

/// The endpoint that the cluster's policy picks; `None` when nobody may be picked.
pub fn pick(candidates: &Candidates<'_>, turn: Turn, rng: &mut SplitMix64) -> Option<u32> {
    if candidates.pool.is_empty() {
        return None;
    }
    match candidates.cluster.balancing.policy {
        Policy::RoundRobin if candidates.pool.is_even() => in_turn(candidates, turn),
        Policy::RoundRobin => in_smooth_turn(candidates, turn),
        Policy::Random => draw(candidates, Draw::ByWeight, rng),
        Policy::LeastLoaded => least_loaded(candidates, rng),
        Policy::PowerOfTwo => power_of_two(candidates, rng),
    }
}

/// Adds the next best of a pool until the list is as long as the cluster has attempts.
pub fn extend(list: &mut List, candidates: &Candidates<'_>, rng: &mut SplitMix64) {
    let attempts = candidates.cluster.retry.attempts;
    if list.len() >= attempts || candidates.pool.is_empty() {
        return;
    }
    let taken = *list;
    let candidates = Candidates {
        taken: taken.entries(),
        ..*candidates
    };
    if candidates.cluster.balancing.policy == Policy::PowerOfTwo
        && let Some(mut small) = SmallPool::of(&candidates)
    {
        while list.len() < attempts
            && let Some(pair) = small.two_distinct(rng)
        {
            let next = better(&candidates, pair, rng);
            small.remove(next);
            list.push(next);
        }
        return;
    }
    while list.len() < attempts {
        let taken = *list;
        let rest = Candidates {
            taken: taken.entries(),
            ..candidates
        };
        let Some(next) = pick(&rest, Turn::Peek, rng) else {
            break;
        };
        list.push(next);
    }
}

/// Whether anybody may be picked.
pub fn any_eligible(candidates: &Candidates<'_>) -> bool {
    candidates.count_eligible() > 0
}

fn in_turn(candidates: &Candidates<'_>, turn: Turn) -> Option<u32> {
    let (place, endpoint) = candidates
        .pool
        .from_cursor()
        .find(|(_, e)| candidates.is_eligible(*e))?;
    if turn == Turn::Take {
        candidates.pool.turn_to_after(place);
    }
    Some(endpoint)
}

/// Smooth weighted round robin (LB-2): every candidate's running weight grows by its weight, the
/// highest is picked and pays the sum back; weights 5, 1, 1 give a a b a c a a.
///
/// Among the same candidates nobody's running weight leaves ±sum. One that does stems from heavier
/// weights or candidates, and would decide alone for thousands of picks.
fn in_smooth_turn(candidates: &Candidates<'_>, turn: Turn) -> Option<u32> {
    let mut best: Option<(i64, u32)> = None;
    let weights = candidates
        .eligible()
        .map(|e| i64::from(candidates.weight(e)));
    let total = weights.fold(0i64, i64::saturating_add);
    for endpoint in candidates.eligible() {
        let weight = i64::from(candidates.weight(endpoint));
        let Some(load) = candidates.cluster.endpoint(endpoint).map(|e| &e.load) else {
            continue;
        };
        let kept = load.turn.get().clamp(total.saturating_neg(), total);
        let running = kept.saturating_add(weight);
        if turn == Turn::Take {
            load.turn.set(running);
        }
        if best.is_none_or(|(highest, _)| running > highest) {
            best = Some((running, endpoint));
        }
    }
    let (running, endpoint) = best?;
    if turn == Turn::Take
        && let Some(picked) = candidates.cluster.endpoint(endpoint)
    {
        picked.load.turn.set(running.saturating_sub(total));
    }
    Some(endpoint)
}

fn least_loaded(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<u32> {
    let metric = candidates.cluster.balancing.metric;
    let mut best: Option<(f64, u32, u32)> = None;
    let mut tied: u64 = 0;
    for endpoint in candidates.eligible() {
        let (cost, weight) = (
            candidates.cost(endpoint, metric),
            candidates.weight(endpoint),
        );
        let order = best.map(|(c, w, _)| compare((cost, weight), (c, w)));
        match order {
            None | Some(std::cmp::Ordering::Less) => {
                tied = u64::from(weight);
                best = Some((cost, weight, endpoint));
            }
            Some(std::cmp::Ordering::Equal) => {
                // A tie goes to the newcomer in proportion to its weight among all tied so far.
                tied = tied.saturating_add(u64::from(weight));
                if rng.between(1, tied) <= u64::from(weight) {
                    best = Some((cost, weight, endpoint));
                }
            }
            Some(std::cmp::Ordering::Greater) => {}
        }
    }
    best.map(|(_, _, endpoint)| endpoint)
}

/// Two distinct endpoints drawn evenly, the less loaded per weight wins, a tie is a coin weighted
/// like the two (LB-8).
fn power_of_two(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<u32> {
    let pair = two_distinct(candidates, rng)?;
    Some(better(candidates, pair, rng))
}

/// The better of two; the only one of one.
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
        std::cmp::Ordering::Less => first,
        std::cmp::Ordering::Greater => second,
        std::cmp::Ordering::Equal if rng.below(w1.saturating_add(w2)) < w1 => first,
        std::cmp::Ordering::Equal => second,
    }
}

/// Two endpoints; one where there is no other.
type Pair = (u32, Option<u32>);

fn two_distinct(candidates: &Candidates<'_>, rng: &mut SplitMix64) -> Option<Pair> {
    let len = candidates.pool.len();
    let all_open = candidates.taken.is_empty()
        && candidates.admit == Admit::Ready
        && candidates.gates.is_empty();
    if all_open && len > 1 {
        let (first, second) = two_below(len, rng);
        return Some((candidates.pool.at(first)?, candidates.pool.at(second)));
    }
    if let Some(small) = SmallPool::of(candidates) {
        return small.two_distinct(rng);
    }
    let first = draw(candidates, Draw::Evenly, rng)?;
    let mut rest = [first; LIST_MAX];
    let end = candidates.taken.len().min(LIST_MAX.saturating_sub(1));
    if let (Some(into), Some(from)) = (rest.get_mut(..end), candidates.taken.get(..end)) {
        into.copy_from_slice(from);
    }
    let taken = rest.get(..end.saturating_add(1)).unwrap_or_default();
    let second = draw(
        &Candidates {
            taken,
            ..*candidates
        },
        Draw::Evenly,
        rng,
    );
    Some((first, second))
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Draw {
    Evenly,
    ByWeight,
}

/// An endpoint by chance: places are drawn until one may be picked, for a while.
fn draw(candidates: &Candidates<'_>, how: Draw, rng: &mut SplitMix64) -> Option<u32> {
    for _ in 0..DRAWS_MAX {
        let place = match how {
            Draw::Evenly => rng.below(candidates.pool.len()),
            Draw::ByWeight => candidates.pool.draw_place(rng),
        };
        let endpoint = candidates.pool.at(place)?;
        if candidates.is_eligible(endpoint) {
            return Some(endpoint);
        }
    }
    // One pass: the k-th that may be picked replaces the choice with its share of all so far.
    let mut chosen = None;
    let mut sum: u64 = 0;
    for endpoint in candidates.eligible() {
        let share = if how == Draw::Evenly {
            1
        } else {
            u64::from(candidates.weight(endpoint))
        };
        sum = sum.saturating_add(share);
        if rng.between(1, sum) <= share {
            chosen = Some(endpoint);
        }
    }
    chosen
}

/// Compares (cost, weight) pairs by cost per weight without dividing.
fn compare(a: (f64, u32), b: (f64, u32)) -> std::cmp::Ordering {
    (a.0 * f64::from(b.1)).total_cmp(&(b.0 * f64::from(a.1)))
}

#[cfg(test)]
mod tests;
