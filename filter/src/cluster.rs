//! A document compiled for picking; nothing here changes until the next configuration, but for the
//! loads, which outlive it.

#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod cluster;
pub mod endpoint;
pub mod ewma;
pub mod load;
pub mod pool;
pub mod retry;
pub mod snapshot;
pub mod tables;
pub mod tier;

pub use cluster::Cluster;
pub use endpoint::{Backend, BackendIndex, Endpoint, EndpointIndex};

#[cfg(test)]
mod tests;
