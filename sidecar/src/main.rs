//! Pointsman's sidecar: keeps every Envoy's filter in step with the registry and probes the
//! backends once for all of them.
//!
//! In reading order: [`cli`] is what an operator types, [`settings`] what a process is told,
//! [`app`] starts the stages; [`registry`] reads what is wanted, [`xds`] sends it to Envoy,
//! [`fleet`] is what the proxies report back, [`jobs`] is what is to be done later; [`caller`] is who
//! connects to a listener.

mod admin;
mod app;
mod caller;
mod cli;
mod event;
mod exchange;
mod fleet;
mod health;
mod jobs;
mod metrics;
mod registry;
mod settings;
mod xds;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
