//! One stream from its arrival to its end. Pure.

pub mod cookie;
