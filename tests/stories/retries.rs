//! Failures: who is asked next, how often, and who is left alone for how long.

mod attempts;
mod backoffs;
mod cooldowns;
mod evidence;
pub(crate) mod failover;
mod mass;
mod passive;
mod trials;
