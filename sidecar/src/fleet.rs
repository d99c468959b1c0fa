//! What the proxies report back, and how far a revision has come among them.

mod reports;
mod rollout;

pub use reports::{Fleet, Node, ProcessReport, drop_silent, take};
pub use rollout::{Reach, reach};
