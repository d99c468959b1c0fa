//! Stories: what an operator or a client sees, on real processes.

mod alone;
mod attempts;
mod backoffs;
mod bootstraps;
mod cli;
mod conformance;
mod deploy;
mod exchange;
mod failover;
mod fed;
mod harness_checks;
mod hostile;
mod jobs;
mod manifests;
mod monitoring;
mod operators;
mod policies;
mod registry_kubernetes;
mod registry_redis;
mod scene;
mod shipped;
mod steering;
mod sticky;
mod streams;
mod tiers;
mod workers;
