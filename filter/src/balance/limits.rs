//! Limits that send a request elsewhere: whom they keep from being picked.

use crate::cluster::Endpoint;
use crate::gates::buckets::Buckets;

/// Why an endpoint is given no request more, though nothing is held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Its bucket has not the tokens; they come in so many nanoseconds (RL-1).
    Rate(u64),
    /// Its bucket never has so many tokens as a batch costs (RL-4).
    OverBurst {
        /// Most that it has.
        burst: u32,
    },
    /// It has so many requests in flight as it may have.
    InFlight {
        /// On all workers.
        count: u32,
        /// At most.
        max: u32,
    },
}

/// Which limits a pick keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None: there are none, or it is asked who would be picked without.
    Nothing,
    /// All of them.
    Limits,
    /// All, but that a token may be owed: for those who are asked when others have failed.
    Credit,
}

impl Keep {
    /// What keeps an endpoint from being given one more request.
    pub fn limit(self, endpoint: &Endpoint, buckets: &Buckets<'_>) -> Option<Limit> {
        if self == Keep::Nothing {
            return None;
        }
        let (max, count) = (endpoint.max_in_flight, endpoint.load.in_flight_everywhere());
        if max > 0 && count >= max {
            return Some(Limit::InFlight { count, max });
        }
        let quota = endpoint.quota.as_deref()?;
        if buckets.is_over_burst(quota) {
            let burst = quota.limit.burst;
            return Some(Limit::OverBurst { burst });
        }
        let missing = quota.missing(buckets.cost());
        if missing == 0 {
            return None;
        }
        let buckets = buckets.at_cost(missing);
        let wait_ns = buckets.wait_ns(quota);
        let has_token = wait_ns == 0 || self == Keep::Credit && buckets.has_credit(quota);
        (!has_token).then_some(Limit::Rate(wait_ns))
    }
}
