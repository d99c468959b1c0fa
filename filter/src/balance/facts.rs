//! Everything a decision depends on, but for the randomness.

use super::candidates::Candidates;
use super::limits::{Keep, Limit};
use super::turn::Turn;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::{Cluster, EndpointIndex};
use crate::gates::buckets::Buckets;
use crate::gates::standing::Admit;
use crate::gates::view::GatesView;

/// What a decision is made of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request's cluster.
    pub cluster: &'a Cluster,
    /// What is held against its endpoints.
    pub gates: &'a GatesView<'a>,
    /// The tokens of those that have a rate limit.
    pub buckets: Buckets<'a>,
    /// What the client's sticky cookies say, in a sticky cluster.
    pub cookies: &'a [Vec<u8>],
    /// The request's key, where something depends on it (LB-12).
    pub key: u64,
    /// Wall clock.
    pub now: WallTime,
}

impl Facts<'_> {
    /// The candidates of a pool, none of them in a list yet.
    pub(super) fn candidates<'b>(&'b self, pool: &'b Pool, admit: Admit) -> Candidates<'b> {
        Candidates {
            cluster: self.cluster,
            pool,
            gates: self.gates,
            admit,
            buckets: &self.buckets,
            keep: Keep::Nothing,
            only_tried: false,
            taken: &[],
            pending: Turn::None,
            ramp: self.cluster.ramp_now(self.gates.is_empty(), self.now),
            key: self.key,
            now: self.now,
        }
    }

    /// Whether somebody of a pool can serve, whatever room there is.
    pub(super) fn any_ready_in(&self, pool: &Pool) -> bool {
        let candidates = self.candidates(pool, Admit::Ready);
        candidates.eligible().next().is_some()
    }

    /// Which limits picks keep to.
    pub(super) fn keep(&self) -> Keep {
        match self.cluster.has_limits {
            true => Keep::Limits,
            false => Keep::Nothing,
        }
    }

    /// Which limit keeps an endpoint from being picked.
    pub(super) fn limit(&self, endpoint: EndpointIndex) -> Option<Limit> {
        let endpoint = self.cluster.endpoint(endpoint)?;
        self.keep().limit(endpoint, &self.buckets)
    }
}
