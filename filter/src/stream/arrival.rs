//! A request that has arrived, and what may become of it.

use std::rc::Rc;

use crate::balance::route::{Plan, RefusalReason};
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::clients::ClientStreams;

/// A record in shared data that a pick changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The cluster's buckets: one without the pick's token. Where they were not read yet, they are.
    Buckets,
    /// The cluster's gates: with the pick on trial.
    Gates,
}

/// Replaces a record; where another worker was faster it answers what stands there now.
pub type Replace<'a> = dyn FnMut(Record, &[u8]) -> Option<Vec<u8>> + 'a;

/// A request of one of our clusters.
pub struct Arrival {
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// The cluster's gates, as they stand in shared data.
    pub gates: Vec<u8>,
    /// The version that they have there.
    pub gates_version: u32,
    /// The cluster's buckets, as they stand in shared data; none where nobody has a rate limit.
    pub buckets: Vec<u8>,
    /// The version that they have there; `None`: they were not read, and tokens that were taken in advance
    /// may suffice.
    pub buckets_version: Option<u32>,
    /// How many workers there may be.
    pub workers: u32,
    /// The streams of its client, where they are limited, and it is not counted among them yet.
    pub client: Option<Rc<ClientStreams>>,
    /// What the client's sticky cookies say, in a sticky cluster.
    pub cookies: Vec<Vec<u8>>,
    /// Its key; absent where nothing depends on one, or the client has none.
    pub key: Option<u64>,
    /// It has not the header or the cookie that its key is to stand in.
    pub key_missing: bool,
    /// What it costs, tokens: a batch its length (RL-4).
    pub cost: u32,
    /// All of the request is here.
    pub whole: bool,
    /// Wall clock; [`WallTime::FIRST`] where nothing depends on it.
    pub now: WallTime,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is sent along a list.
    Forward {
        /// The list, and why.
        plan: Plan,
        /// It is the first that is sent to the unhealthy: fail-open begins (GT-7).
        fails_open: bool,
    },
    /// It is answered here.
    Refuse {
        /// Why.
        reason: RefusalReason,
        /// The soonest end of a back-off, or the soonest token, from now, nanoseconds.
        retry_after_ns: Option<u64>,
    },
}
