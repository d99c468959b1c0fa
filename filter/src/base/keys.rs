//! Names in shared data: `<format>/<kind>/<16 hex digits>`.
//!
//! Keys cannot be deleted, so there is one per cluster and one per worker, never one per backend. A
//! change of any record's format changes the number in front, so that filters of two versions never
//! read each other's records.

use crate::base::hash::hex;

/// The VM ids' counter.
pub const VM_COUNTER: &str = "1/v/0000000000000000";
/// Who does the jobs of all workers: a [`crate::fleet::heartbeat::Lease`].
pub const LEASE: &str = "1/e/0000000000000000";
/// The verdicts that stand in the gates: a [`crate::fleet::heartbeat::Heard`].
pub const HEARD: &str = "1/x/0000000000000000";
/// The configuration that was refused last: a [`crate::fleet::heartbeat::Refusal`].
pub const REFUSED: &str = "1/c/0000000000000000";

/// The gates of a cluster, by its key: [`crate::gates::Gates`].
pub fn gates(cluster_key: u64) -> String {
    format!("1/g/{}", hex(cluster_key))
}

/// A worker's [`crate::fleet::heartbeat::Card`], by its slot.
pub fn card(slot: u32) -> String {
    format!("1/w/{}", hex(u64::from(slot)))
}
