//! What operators can observe: events, counters.

pub mod events;
pub mod metrics;
