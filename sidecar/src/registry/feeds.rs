//! The stores that a registry is read from.

pub mod crd;
pub mod file;
pub mod kubernetes;
pub mod redis;
