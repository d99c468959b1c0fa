//! The endpoints among which one pick chooses.

use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::ramp::{FULL, Ramp};
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::Metric;
use crate::gates::buckets::Buckets;
use crate::gates::standing::{Admit, Standing};
use crate::gates::view::GatesView;

use super::limits::Keep;
use super::turn::Turn;

/// Draws in vain after which a pool is looked through instead: so many, and one more for so many members.
/// A draw costs as much as a look at one member. With a quarter as many draws as members, a large pool is
/// hardly ever looked through, even where 99 of 100 are held back.
const DRAWS_MIN: u32 = 8;
const MEMBERS_PER_DRAW: u32 = 4;

/// The pool of one pick and which of its endpoints may be picked.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    /// The cluster of the pool.
    pub cluster: &'a Cluster,
    /// The pool.
    pub pool: &'a Pool,
    /// What is held against its endpoints.
    pub gates: &'a GatesView<'a>,
    /// Which of them may be picked.
    pub admit: Admit,
    /// The tokens of those that have a rate limit.
    pub buckets: &'a Buckets<'a>,
    /// Which limits the pick keeps to.
    pub keep: Keep,
    /// Those are left out whom one request is to try alone first.
    pub only_tried: bool,
    /// Endpoints that stand in the list already.
    pub taken: &'a [EndpointIndex],
    /// The turn in this pool that the first of the list takes, once it is committed.
    pub pending: Turn,
    /// How weights grow, while somebody's may.
    pub ramp: Option<Ramp>,
    /// The request's key, where something depends on it.
    pub key: u64,
    /// Wall clock.
    pub now: WallTime,
}

impl<'a> Candidates<'a> {
    /// What keeps an endpoint from being picked; `None` where nothing does. The one question that
    /// picks, lists and explanations ask.
    pub fn held_back(&self, endpoint: EndpointIndex) -> Option<Standing> {
        let standing = self.gates.standing(endpoint, self.now);
        (!self.admit.admits(standing)).then_some(standing)
    }

    /// Whether an endpoint may be picked.
    #[inline]
    pub fn is_eligible(&self, endpoint: EndpointIndex) -> bool {
        !self.taken.contains(&endpoint)
            && self.may_serve(endpoint)
            && (self.keep == Keep::Nothing || self.has_room(endpoint))
    }

    #[inline]
    fn may_serve(&self, endpoint: EndpointIndex) -> bool {
        match self.only_tried {
            true => {
                let standing = self.gates.standing_of_tried(endpoint, self.now);
                self.admit.admits(standing)
            }
            false => self.held_back(endpoint).is_none(),
        }
    }

    // Not inlined: most clusters have no limits, and a pick asks in many places.
    #[inline(never)]
    fn has_room(&self, endpoint: EndpointIndex) -> bool {
        let endpoint = self.cluster.endpoint(endpoint);
        endpoint.is_some_and(|it| self.keep.limit(it, self.buckets).is_none())
    }

    /// Those that may be picked, in the pool's order.
    pub fn eligible(&self) -> impl Iterator<Item = EndpointIndex> {
        let members = self.pool.members().iter().copied();
        members.filter(|endpoint| self.is_eligible(*endpoint))
    }

    /// Whether every member of the pool may be picked: nothing has to be looked up then.
    pub fn all_are_eligible(&self) -> bool {
        self.taken.is_empty()
            && self.admit == Admit::Ready
            && self.keep == Keep::Nothing
            && self.gates.is_empty()
            && self.ramp.is_none()
    }

    /// An endpoint's weight now, among those of all. Weight 0 counts as 1 where only such are left: all 0
    /// is even.
    pub fn weight(&self, endpoint: EndpointIndex) -> u32 {
        let weight = self
            .cluster
            .endpoint(endpoint)
            .map_or(1, |e| u32::from(e.weight).max(1));
        match self.ramp {
            None => weight,
            Some(ramp) => weight.saturating_mul(self.share(ramp, endpoint)),
        }
    }

    /// The part of its weight that an endpoint has on a ramp.
    fn share(&self, ramp: Ramp, endpoint: EndpointIndex) -> u32 {
        let came = self
            .cluster
            .endpoint(endpoint)
            .map_or(WallTime::default(), |e| e.load.known_since);
        let since = came.max(self.gates.recovered_at(endpoint));
        ramp.share(since, self.now)
    }

    /// Whether one stays drawn who was drawn by all its weight.
    fn stays_drawn(&self, endpoint: EndpointIndex, rng: &mut SplitMix64) -> bool {
        self.ramp
            .is_none_or(|ramp| rng.below(FULL) < self.share(ramp, endpoint))
    }

    /// An endpoint's load by a metric, before it is divided by the weight.
    pub fn cost(&self, endpoint: EndpointIndex, metric: Metric) -> f64 {
        self.cluster
            .endpoint(endpoint)
            .map_or(0.0, |e| e.load.cost(metric, self.now))
    }

    /// The same without the endpoints that stand in a list.
    pub fn without<'b>(&self, taken: &'b [EndpointIndex]) -> Candidates<'b>
    where
        'a: 'b,
    {
        Candidates { taken, ..*self }
    }

    /// The same, keeping to limits.
    pub fn keeping(&self, keep: Keep) -> Self {
        Candidates { keep, ..*self }
    }

    /// An endpoint by chance, but for `beside`, which was drawn before: places are drawn, and where that
    /// is in vain all are looked at.
    pub fn draw(
        &self,
        beside: Option<EndpointIndex>,
        rng: &mut SplitMix64,
        place: impl Fn(&mut SplitMix64) -> u32,
        share: impl Fn(EndpointIndex) -> u32,
    ) -> Option<EndpointIndex> {
        let drawn = self.draw_places(beside, rng, place);
        drawn.or_else(|| self.search(beside, rng, share).map(|found| found.0))
    }

    /// Draws places until one may be picked, for a while.
    pub fn draw_places(
        &self,
        beside: Option<EndpointIndex>,
        rng: &mut SplitMix64,
        place: impl Fn(&mut SplitMix64) -> u32,
    ) -> Option<EndpointIndex> {
        let draws_max = DRAWS_MIN.saturating_add(self.pool.len() / MEMBERS_PER_DRAW);
        for _ in 0..draws_max {
            let endpoint = self.pool.at(place(rng))?;
            let may_be = Some(endpoint) != beside && self.is_eligible(endpoint);
            if may_be && self.stays_drawn(endpoint, rng) {
                return Some(endpoint);
            }
        }
        None
    }

    /// Two by chance, but for `beside`; one where there is no other. All are looked at once: each that may
    /// be picked replaces the first with its share of all so far, who then is the second; else it
    /// replaces the second with its share of all so far but the first.
    pub fn search(
        &self,
        beside: Option<EndpointIndex>,
        rng: &mut SplitMix64,
        share: impl Fn(EndpointIndex) -> u32,
    ) -> Option<(EndpointIndex, Option<EndpointIndex>)> {
        let mut eligible = self.eligible().filter(|e| Some(*e) != beside);
        let mut first = eligible.next()?;
        let mut second = None;
        let mut share_of_first = u64::from(share(first));
        let mut sum = share_of_first;
        for endpoint in eligible {
            let share = u64::from(share(endpoint));
            let others = sum.saturating_sub(share_of_first).saturating_add(share);
            sum = sum.saturating_add(share);
            if rng.between(1, sum) <= share {
                second = Some(first);
                (first, share_of_first) = (endpoint, share);
            } else if rng.between(1, others) <= share {
                second = Some(endpoint);
            }
        }
        Some((first, second))
    }
}

/// Compares (cost, weight) pairs by cost per weight without dividing.
pub fn compare(a: (f64, u32), b: (f64, u32)) -> std::cmp::Ordering {
    (a.0 * f64::from(b.1)).total_cmp(&(b.0 * f64::from(a.1)))
}
