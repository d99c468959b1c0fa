//! The workers of one Envoy among themselves, and the filter with the sidecar.

pub mod clock;
pub mod drain;
pub mod exchange;
pub mod gauges;
pub mod heartbeat;
pub mod identity;
pub mod lease;
pub mod regimes;
pub mod rejection;
pub mod round;
pub mod schedule;
pub mod telling;
pub mod verdicts;
