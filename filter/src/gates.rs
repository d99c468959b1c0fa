//! What is held against backends, shared by all workers.
//!
//! `evidence::Met` is what one attempt met; `transition` makes of it what changes, and each `Gate`
//! stands in its cluster's blob in shared data. `view` tells picks what that means. `buckets` are the tokens
//! of those with a rate limit.

pub mod availability;
pub mod backoff;
pub mod buckets;
pub mod cooldown;
pub mod entries;
pub mod event;
pub mod evidence;
pub mod gate;
#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod gates;
pub mod heirs;
pub mod late;
pub mod recovery;
pub mod standing;
pub mod transition;
pub mod trial;
pub mod view;

pub use gate::Gate;
pub use gates::{ENTRIES_MAX, Gates};
