//! Commands as a person types them, with kubectl.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::artefacts;
use crate::process::Process;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a script in the project's folder, and gives what it printed; fails where a command fails.
pub async fn run(script: &str, kubeconfig: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(artefacts::root())
        .env("PATH", path()?)
        .env("KUBECONFIG", kubeconfig)
        // kubectl remembers servers by their addresses, and ports are used again.
        .env("HOME", folder.path());
    let (said, errors) = (folder.path().join("said"), folder.path().join("errors"));
    let process = Process::start_with(command, Stdio::null(), &said, &errors)?;
    let status = process.exit(DEADLINE).await?;
    ensure!(status.success(), "{status} of {script}\n{}", process.log());
    Ok(std::fs::read_to_string(&said)?)
}

/// The kubectl that was fetched comes first.
fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = artefacts::kubernetes().into_iter();
    Ok(env::join_paths(folders.chain(env::split_paths(&path)))?)
}
