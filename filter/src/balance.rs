//! Who serves a request. Pure.

pub mod affinity;
pub mod candidates;
pub mod explain;
pub mod facts;
mod least_loaded;
pub mod limits;
pub mod list;
mod lot;
mod maglev;
pub mod plan;
pub mod policy;
mod power_of_two;
mod random;
pub mod refusal;
mod rendezvous;
mod round_robin;
pub mod route;
mod shard;
pub mod tiered;
pub mod turn;

#[cfg(test)]
mod tests;
