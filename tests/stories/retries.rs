//! Failures: who is asked next, how often, and who is left alone for how long.

mod attempts;
mod backoffs;
pub(crate) mod failover;
