//! Stories: what an operator or a client sees, on real processes. A folder per theme.

mod alone;
mod conformance;
mod deploy;
mod fleet;
mod harness_checks;
mod health;
mod hostile;
mod json_rpc;
mod kubernetes;
mod limits;
mod operators;
mod redis;
mod retries;
mod routing;
mod scene;
mod stores;
