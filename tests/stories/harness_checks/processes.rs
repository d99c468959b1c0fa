//! Children end with whoever started them, however that one ends.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::process::Process;
use harness::{SOON, eventually};

fn sleeper(folder: &Path) -> Result<Process> {
    let mut command = Command::new("sleep");
    command.arg("600");
    Process::start(command, &folder.join("log"))
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; that nobody has waited for it is init's affair.
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn a_panic_ends_the_child() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = sleeper(folder.path())?;
    let pid = process.pid();
    ensure!(runs(pid));
    let story = std::thread::spawn(move || {
        let _owned = process;
        panic!("a story fails");
    });
    ensure!(story.join().is_err());
    ensure!(!runs(pid), "{pid} has survived the panic");
    Ok(())
}

#[test]
fn the_end_of_the_starting_thread_does_not_end_the_child() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_owned();
    let process = std::thread::spawn(move || sleeper(&path)).join();
    let process = process.ok().context("the thread panicked")??;
    process.ensure_running()?;
    Ok(())
}

/// Where the inner run of the test below writes its child's process id.
const PID_FILE: &str = "HARNESS_CHECK_PID_FILE";

fn start_a_child_and_wait(file: &Path) -> Result<()> {
    let process = sleeper(file.parent().context("the file has no folder")?)?;
    std::fs::write(file.with_extension("draft"), process.pid().to_string())?;
    std::fs::rename(file.with_extension("draft"), file)?;
    // Until it is killed; bounded, should the outer run fail before that.
    std::thread::park_timeout(Duration::from_secs(60));
    Ok(())
}

#[tokio::test]
async fn a_killed_test_process_takes_its_children_along() -> Result<()> {
    if let Some(file) = std::env::var_os(PID_FILE) {
        return start_a_child_and_wait(Path::new(&file));
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pid");
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("a_killed_test_process_takes_its_children_along")
        .env(PID_FILE, &file);
    let tests = Process::start(command, &folder.path().join("tests.log"))?;
    let child: i32 = eventually(SOON, "the child of the other process", async || {
        tests.ensure_running()?;
        Ok(std::fs::read_to_string(&file)?.parse()?)
    })
    .await?;
    ensure!(runs(child));
    tests.kill();
    eventually(SOON, "the end of the child", async || {
        ensure!(!runs(child), "{child} still runs");
        Ok(())
    })
    .await
}
