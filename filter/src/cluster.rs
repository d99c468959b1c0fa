//! A document compiled for picking; nothing here changes until the next configuration, but for the
//! loads, which outlive it.

pub mod averages;
pub mod clients;
#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod cluster;
pub mod endpoint;
pub mod ewma;
pub mod load;
pub mod pool;
pub mod quota;
pub mod ramp;
pub mod retry;
pub mod shards;
mod slots;
pub mod snapshot;
pub mod tables;
pub mod tier;

pub use cluster::Cluster;
pub use endpoint::{Backend, BackendIndex, Endpoint, EndpointIndex};

#[cfg(test)]
mod tests;
