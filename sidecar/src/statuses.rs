//! What became of each record, written beside it by the sidecar that holds the lease.

mod conditions;
mod counters;
pub mod kubernetes;
pub mod redis;
mod survey;
mod warned;
