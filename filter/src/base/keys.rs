//! Names in shared data: `<format>/<kind>/<16 hex digits>`.
//!
//! Keys cannot be deleted, so there is one per cluster and one per worker, never one per backend.
//! Filters of several versions read each other's records (see [`super::record`]): the number in front
//! changes only where one could not make sense of the other's at all.

use super::hash::{ClusterKey, hex};

/// The identity that was given last.
pub const IDENTITY: &str = "2/v/0000000000000000";
/// Who does the jobs of all workers: a lease.
pub const LEASE: &str = "2/e/0000000000000000";
/// The verdicts that stand in the gates, and since when.
pub const VERDICTS: &str = "2/x/0000000000000000";
/// The configuration that was rejected last, and why.
pub const REJECTED: &str = "2/c/0000000000000000";

/// The gates of a cluster, by its key.
pub fn gates(cluster: ClusterKey) -> String {
    format!("2/g/{}", hex(cluster.0))
}

/// The buckets of a cluster whose backends have rate limits, by its key.
pub fn buckets(cluster: ClusterKey) -> String {
    format!("2/b/{}", hex(cluster.0))
}

/// What a worker tells of its loads, by its slot.
pub fn told(slot: u32) -> String {
    format!("2/t/{}", hex(u64::from(slot)))
}

/// A worker's heartbeat, by its slot.
pub fn heartbeat(slot: u32) -> String {
    format!("2/w/{}", hex(u64::from(slot)))
}
