//! Pointsman's sidecar: keeps every Envoy's filter in step with the registry and probes the
//! backends once for all of them.
//!
//! The modules stand in layer order, lowest first: a file imports from its own module and from those
//! above it in this list, never from one below. The test `layers` holds them to it.

/// Types that every stage uses: events, outcomes of probes, overrides.
mod model;

/// The one sink of events, and the counters.
mod telemetry;

/// What a process is told, by environment and flags.
mod settings;

/// How to talk to Redis, Kubernetes and files.
mod stores;

/// What is wanted: read, judged, guarded, published.
mod registry;

/// Whom clusters trust: the files of authorities that they name.
mod trust;

/// Bulk work that outlives the process.
mod jobs;

/// Connections: peers to us, and commands to a sidecar.
mod net;

/// The prober and its verdicts.
mod health;

/// What proxies report, and which revision runs where.
mod fleet;

/// What is wanted, sent to Envoy.
mod xds;

/// Verdicts to the filters, their reports back.
mod exchange;

/// What became of each record, written back to its store.
mod statuses;

/// The admin API's answers, for both of its ends.
mod api;

/// What operators can ask and tell.
mod admin;

/// Which stages there are, and what they need of each other.
mod app;

/// What an operator types.
mod cli;

#[cfg(test)]
mod layers;

#[cfg(test)]
mod manifests;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
