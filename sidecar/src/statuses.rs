//! What became of each record, written beside it by the sidecar that holds the lease.

mod conditions;
pub mod kubernetes;
