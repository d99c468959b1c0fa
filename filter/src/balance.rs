//! Who serves a request. Pure.

pub mod candidates;
pub mod explain;
mod least_loaded;
pub mod list;
pub mod policy;
mod power_of_two;
mod random;
mod round_robin;
pub mod route;
pub mod turn;

#[cfg(test)]
mod tests;
