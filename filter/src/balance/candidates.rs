//! The endpoints among which one pick chooses.

use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::Metric;
use crate::gates::standing::{Admit, Standing};
use crate::gates::view::GatesView;

use super::turn::Turn;

/// Draws in vain after which a pool is looked through instead.
const DRAWS_MAX: u32 = 8;

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
    /// Endpoints that stand in the list already.
    pub taken: &'a [EndpointIndex],
    /// The turn in this pool that the first of the list takes, once it is committed.
    pub pending: Turn,
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
    pub fn is_eligible(&self, endpoint: EndpointIndex) -> bool {
        !self.taken.contains(&endpoint) && self.held_back(endpoint).is_none()
    }

    /// Those that may be picked, in the pool's order.
    pub fn eligible(&self) -> impl Iterator<Item = EndpointIndex> {
        let members = self.pool.members().iter().copied();
        members.filter(|endpoint| self.is_eligible(*endpoint))
    }

    /// Whether every member of the pool may be picked: nothing has to be looked up then.
    pub fn all_are_eligible(&self) -> bool {
        self.taken.is_empty() && self.admit == Admit::Ready && self.gates.is_empty()
    }

    /// An endpoint's weight now. Weight 0 counts as 1 where only such are left: all 0 is even.
    pub fn weight(&self, endpoint: EndpointIndex) -> u32 {
        self.cluster
            .endpoint(endpoint)
            .map_or(1, |e| u32::from(e.weight).max(1))
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

    /// An endpoint by chance, but for `beside`, which was drawn before: places are drawn until one
    /// may be picked, for a while. Then all are looked at once: the k-th that may be picked replaces
    /// the choice with its share of all so far.
    pub fn draw(
        &self,
        beside: Option<EndpointIndex>,
        rng: &mut SplitMix64,
        place: impl Fn(&mut SplitMix64) -> u32,
        share: impl Fn(EndpointIndex) -> u32,
    ) -> Option<EndpointIndex> {
        for _ in 0..DRAWS_MAX {
            let endpoint = self.pool.at(place(rng))?;
            if Some(endpoint) != beside && self.is_eligible(endpoint) {
                return Some(endpoint);
            }
        }
        let mut chosen = None;
        let mut sum: u64 = 0;
        for endpoint in self.eligible().filter(|e| Some(*e) != beside) {
            let share = u64::from(share(endpoint));
            sum = sum.saturating_add(share);
            if rng.between(1, sum) <= share {
                chosen = Some(endpoint);
            }
        }
        chosen
    }
}

/// Compares (cost, weight) pairs by cost per weight without dividing.
pub fn compare(a: (f64, u32), b: (f64, u32)) -> std::cmp::Ordering {
    (a.0 * f64::from(b.1)).total_cmp(&(b.0 * f64::from(a.1)))
}
