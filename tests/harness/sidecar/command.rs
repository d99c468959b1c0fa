//! The program as a command: what an operator types, and what must fail at start.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{STOP_DEADLINE, Sidecar, ensure_no_panic, secrets};
use crate::artefacts;
use crate::process::Process;

/// What a command of an operator came to.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub errors: String,
}

/// Runs `pointsman` as an operator does, on this sidecar, with a text as its input.
pub async fn operate(sidecar: &Sidecar, arguments: &[&str], input: &str) -> Result<Ended> {
    let folder = tempfile::tempdir()?;
    let [from, output, errors] = ["in", "out", "err"].map(|name| folder.path().join(name));
    fs::write(&from, input)?;
    let mut command = Command::new(artefacts::sidecar()?);
    command.args(arguments).env_clear().env(
        "POINTSMAN_ADMIN_ADDRESS",
        sidecar.admin_address().to_string(),
    );
    let input = fs::File::open(&from)?.into();
    let process = Process::start_with(command, input, &output, &errors)?;
    let status = process.exit(STOP_DEADLINE).await?;
    ensure_no_panic(&process)?;
    Ok(Ended {
        code: status.code().context("ended by a signal")?,
        out: fs::read_to_string(&output)?,
        errors: fs::read_to_string(&errors)?,
    })
}

/// Runs `pointsman` with these arguments and this environment only, to its end; it listens on ports of
/// its own, unless the environment says where.
///
/// For what must fail at start: returns the exit code and both outputs as one text, which holds no
/// secret.
pub async fn run(
    arguments: &[&str],
    environment: &[(&str, &str)],
    folder: &Path,
) -> Result<(i32, String)> {
    let mut command = Command::new(artefacts::sidecar()?);
    command
        .args(arguments)
        .env_clear()
        .env("POINTSMAN_XDS_LISTEN", "127.0.0.1:0")
        .env("POINTSMAN_ADMIN_LISTEN", "127.0.0.1:0")
        .envs(environment.iter().copied());
    let process = Process::start(command, &folder.join("run.log"))?;
    let status = process.exit(STOP_DEADLINE).await?;
    ensure_no_panic(&process)?;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let given: Vec<(String, String)> = environment.iter().map(owned).collect();
    secrets::ensure_none(&secrets::of(&given), &process.log())?;
    Ok((status.code().context("ended by a signal")?, process.log()))
}
