//! What an endpoint may be given at most.

use std::cell::Cell;

use crate::base::hash::{self, BackendKey, LoadKey};
use crate::config::RateLimit;

/// A second, nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

/// A rate limit, compiled: tokens come one by one and are kept until there is a burst of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Names the bucket: the address and the limit itself. So the bucket outlives every update but
    /// one of the limit, and workers that run another limit have a bucket of their own (RL-8).
    pub key: BackendKey,
    /// As the document has it.
    pub limit: RateLimit,
    /// How long a token takes to come, nanoseconds.
    pub token_ns: u64,
    /// How long a burst of them takes, nanoseconds.
    pub burst_ns: u64,
    /// Tokens that this worker has taken in advance, and gives back with its next tick.
    pub ahead: Cell<u32>,
}

impl Quota {
    /// The quota of an address.
    pub fn new(address: LoadKey, limit: RateLimit) -> Self {
        let RateLimit { per_second, burst } = limit;
        let token_ns = SECOND_NS.checked_div(per_second.into()).unwrap_or(1);
        Quota {
            key: BackendKey(hash::below(address.0, &format!("{per_second}/{burst}"))),
            limit,
            token_ns,
            burst_ns: token_ns.saturating_mul(burst.into()),
            ahead: Cell::new(0),
        }
    }

    /// How many tokens of a request's are not there in advance.
    pub fn missing(&self, cost: u32) -> u32 {
        cost.saturating_sub(self.ahead.get())
    }

    /// Spends tokens that were taken in advance.
    pub fn spend(&self, cost: u32) {
        self.ahead.set(self.ahead.get().saturating_sub(cost));
    }
}
