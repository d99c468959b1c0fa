//! One stream from its arrival to its end. Pure.

mod arrival;
pub mod attempts;
pub mod cookie;
mod effects;
pub mod headers;
mod held;
#[allow(
    clippy::module_inception,
    reason = "the room is named for what it holds"
)]
mod stream;
mod tokens;
pub mod trails;
pub mod upstream;

pub use arrival::{Arrival, Record, Replace, Step};
pub use effects::Effects;
pub use stream::{Stream, TOKEN_TRIES_MAX};
