//! What operators can observe: events, counters.

pub mod counts;
pub mod events;
pub mod lines;
pub mod metrics;
