//! Who serves a request: policies, stickiness, tiers, and that no client decides it.

mod keys;
mod policies;
mod ranks;
mod steering;
mod sticky;
mod streams;
mod tiers;
mod uploads;
mod workers;
