//! The command line: what an operator types, and the exit code that answers it: 0 done, 1 failed,
//! 2 wrong usage, 3 time was up.
//!
//! `serve` is the sidecar itself. All but `validate` and `completions` ask the admin API of a running
//! one.

mod apply;
mod client;
mod doctor;
mod documents;
mod format;
mod get;
mod health;
mod jobs;
mod moment;
mod overrides;
mod report;
mod serve;
mod validate;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::registry::feeds::crd;
use client::AdminFlags;
use health::{HealthError, HealthFlags};
use report::{Report, wrong_usage};

/// Keeps the routing filters of Envoy in step with a registry of backends.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar: read the registry, probe the backends, serve the proxies
    Serve(Box<serve::ServeFlags>),
    /// Check registry files and say what is wrong with them, and where
    Validate {
        /// Files (.yaml, .yml, .json, .toml), folders of such, or - for stdin (YAML or JSON)
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write documents to the registry, through a running sidecar
    Apply(apply::ApplyFlags),
    /// Delete clusters from the registry
    Delete(apply::DeleteFlags),
    /// Show clusters, one cluster, proxies, the configuration served, operators' words, or jobs
    Get(get::GetFlags),
    /// Take a backend out: no new request, whatever probes and documents say
    Cordon(overrides::SayFlags),
    /// Let a backend run empty: no new request, running ones finish
    Drain(overrides::SayFlags),
    /// Take a cordon or a drain back
    Uncordon(overrides::TakeBackFlags),
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Ask a running Envoy and its sidecar what is wrong, why, and how to mend it
    Doctor(doctor::DoctorFlags),
    /// Ask the sidecar on this machine whether it is ready
    Health(HealthFlags),
    /// Print the custom resource definition of BackendCluster, for kubectl apply
    Crd,
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            return match error.use_stderr() {
                true => wrong_usage(&text),
                false => Report::done(text).finish(),
            };
        }
    };
    let admin = &cli.admin;
    match cli.command {
        Command::Serve(flags) => return serve::run(&flags),
        Command::Health(flags) => return health(&flags),
        Command::Validate { files } => validate::run(&files),
        Command::Apply(flags) => client::run(async || apply::run(&flags, admin).await),
        Command::Delete(flags) => client::run(async || apply::delete(&flags, admin).await),
        Command::Get(flags) => client::run(async || get::run(&flags, admin).await),
        Command::Cordon(flags) => {
            client::run(async || overrides::say(&flags, admin, "cordon").await)
        }
        Command::Drain(flags) => client::run(async || overrides::say(&flags, admin, "drain").await),
        Command::Uncordon(flags) => client::run(async || overrides::take_back(&flags, admin).await),
        Command::Doctor(flags) => client::run(async || doctor::run(&flags, admin).await),
        Command::Completions { shell } => completions(shell),
        Command::Crd => Report::done(crd::YAML),
    }
    .finish()
}

fn health(flags: &HealthFlags) -> ExitCode {
    match health::ask(flags, |name| std::env::var(name).ok()) {
        Ok(()) => Report::done("ok\n").finish(),
        Err(error @ HealthError::Address { .. }) => wrong_usage(&format!("{error}\n")),
        Err(error) => Report::failed(error).finish(),
    }
}

fn completions(shell: Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pointsman", &mut script);
    Report::done(String::from_utf8_lossy(&script))
}
