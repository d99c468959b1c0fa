//! One stream from its arrival to its end. Pure.

pub mod attempts;
pub mod cookie;
