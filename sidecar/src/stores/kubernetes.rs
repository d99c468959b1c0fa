//! The API server of Kubernetes.

pub mod access;
pub mod lease;
