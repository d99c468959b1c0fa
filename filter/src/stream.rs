//! One stream from its arrival to its end. Pure.

pub mod attempts;
pub mod cookie;
pub mod headers;
#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod stream;

pub use stream::{Arrival, Effects, Step, Stream};
