//! What is held against backends, shared by all workers.

pub mod availability;
pub mod backoff;
pub mod event;
pub mod evidence;
#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod gates;
pub mod standing;
pub mod transition;
pub mod view;

pub use gates::{ENTRIES_MAX, Gate, Gates};
