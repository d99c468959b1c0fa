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

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
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

impl Command {
    /// Whether it asks a sidecar's admin API, so that [`AdminFlags`] mean something to it.
    fn asks(name: &str) -> bool {
        !["serve", "validate", "completions", "health", "crd"].contains(&name)
    }
}

/// The command line. The flags of who asks a sidecar stand before and after the commands that do.
fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let others: Vec<String> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .filter(|name| !Command::asks(name))
        .collect();
    let hide = |arg: Arg| {
        let hidden = AdminFlags::IDS.contains(&arg.get_id().as_str());
        arg.hide(hidden)
    };
    others.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |it| it.mut_args(hide))
    })
}

/// Reads a command line.
fn parse(words: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let name = matches.subcommand_name().unwrap_or_default();
    let is_typed = |id: &&&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = AdminFlags::IDS.iter().find(is_typed)
        && !Command::asks(name)
    {
        let why = format!("{name} asks no sidecar: --{id} means nothing to it");
        return Err(command.error(ErrorKind::ArgumentConflict, why));
    }
    Cli::from_arg_matches(&matches)
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
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
    let asked = client::wait_for(health::ask(flags, |name| std::env::var(name).ok()));
    match asked {
        Ok(Ok(())) => Report::done("ok\n").finish(),
        Ok(Err(error @ HealthError::Address { .. })) => wrong_usage(&format!("{error}\n")),
        Ok(Err(error)) => Report::failed(error).finish(),
        Err(error) => error.finish(),
    }
}

fn completions(shell: Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "pointsman", &mut script);
    Report::done(String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Cli, String> {
        let words = words.split_whitespace().map(OsString::from);
        parse(words).map_err(|error| error.render().to_string())
    }

    #[test]
    fn the_clients_flags_stand_before_and_after_its_commands() {
        for words in [
            "pointsman --address a:1 --token t get clusters",
            "pointsman get --address a:1 --token t clusters",
            "pointsman get clusters --address a:1 --token t",
            "pointsman drain --address a:1 orders one --token t",
        ] {
            let admin = parsed(words).map(|it| it.admin);
            let expected = AdminFlags {
                address: "a:1".to_owned(),
                token: Some("t".to_owned()),
            };
            assert_eq!(admin, Ok(expected), "{words}");
        }
    }

    #[test]
    fn who_asks_no_sidecar_neither_lists_nor_takes_them() {
        for name in command()
            .get_subcommands()
            .map(|it| it.get_name().to_owned())
        {
            if name == "help" {
                continue;
            }
            let help = parsed(&format!("pointsman {name} --help"))
                .err()
                .expect("help");
            let listed = help.contains("--address") || help.contains("--token ");
            assert_eq!(listed, Command::asks(&name), "{help}");
        }
        for words in ["pointsman serve --token t", "pointsman --address a:1 crd"] {
            let error = parsed(words).err().expect("an error");
            assert!(error.contains("asks no sidecar"), "{error}");
        }
    }
}
