//! How to talk to each store; no rule of the registry stands here.

pub mod file;
pub mod kubernetes;
pub mod lease;
pub mod redis;
