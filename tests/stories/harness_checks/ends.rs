//! Dropping an Envoy or a sidecar fails the story in which it trapped, panicked or ended unasked.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Envoy, Registry, Sidecar, artefacts, eventually};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::{LocalSet, spawn_local};

use crate::scene::{self, CLUSTER, SOON, backends};

/// What dropping it says; `None`: nothing.
fn said_at_drop<T>(owned: T) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(owned))).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// Fails unless dropping it says this.
fn ensure_caught<T>(owned: T, fault: &str) -> Result<()> {
    let said = said_at_drop(owned).context("dropped in silence")?;
    ensure!(said.contains(fault), "{said}");
    Ok(())
}

/// An Envoy whose VMs obey `x-fault`.
async fn mortal() -> Result<Envoy> {
    let [a] = backends(["a"])?;
    let document = cluster(CLUSTER, &[&a], json!({}));
    let module = artefacts::built("faulty.wasm")?;
    Envoy::start(scene::bootstrap(&document)?.module(&module)?).await
}

async fn fault(envoy: &Envoy, kind: &str) -> Result<()> {
    envoy.client().fault(kind).await.map(drop)
}

async fn wait_for_a_reload(envoy: &Envoy) -> Result<()> {
    eventually(SOON, "the VM to be started again", async || {
        envoy.client().get("/").await?;
        let reloads = envoy.stat("wasm.pointsman.vm_reload_success").await?;
        ensure!(reloads > 0, "no reload");
        Ok(())
    })
    .await
}

async fn sidecar() -> Result<Sidecar> {
    let [a] = backends(["a"])?;
    let registry = Registry::new(vec![cluster(CLUSTER, &[&a], json!({}))])?;
    Sidecar::start(&registry).await
}

#[tokio::test]
async fn a_reloaded_vm_fails_the_story() -> Result<()> {
    let envoy = mortal().await?;
    fault(&envoy, "trap").await?;
    wait_for_a_reload(&envoy).await?;
    ensure_caught(envoy, "vm_reload_success")?;

    let envoy = mortal().await?;
    fault(&envoy, "trap").await?;
    wait_for_a_reload(&envoy).await?;
    let stopping = async { spawn_local(envoy.stop()).await.err() };
    let stopped = LocalSet::new().run_until(stopping).await;
    let said = stopped.context("stopped in silence")?.into_panic();
    let said = said.downcast_ref::<String>().context("no words")?;
    ensure!(said.contains("a VM died"), "{said}");
    Ok(())
}

/// Envoy's stats count a dead VM when it is started again, which takes one more request.
#[tokio::test]
async fn a_trap_that_nothing_follows_fails_the_story() -> Result<()> {
    let envoy = mortal().await?;
    fault(&envoy, "trap-in-log").await?;
    eventually(SOON, "the trap in the log", async || {
        ensure!(envoy.process().log().contains("proxy_on_log"));
        Ok(())
    })
    .await?;
    ensure!(envoy.stat("wasm.pointsman.vm_reload_success").await? == 0);
    ensure_caught(envoy, "proxy_on_log failed")
}

#[tokio::test]
async fn expected_traps_fail_nothing() -> Result<()> {
    let mut envoy = mortal().await?;
    envoy.expect_traps();
    fault(&envoy, "trap").await?;
    wait_for_a_reload(&envoy).await?;
    ensure!(said_at_drop(envoy).is_none());
    Ok(())
}

/// A second panic would abort all tests.
#[tokio::test]
async fn a_story_that_fails_itself_says_its_own_fault() -> Result<()> {
    let envoy = mortal().await?;
    fault(&envoy, "trap").await?;
    wait_for_a_reload(&envoy).await?;
    let story = thread::spawn(move || {
        let _owned = envoy;
        panic!("the story's own");
    });
    let said = story.join().err().context("no panic")?;
    ensure!(said.downcast_ref::<&str>() == Some(&"the story's own"));
    Ok(())
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_fails_the_story() -> Result<()> {
    // By SIGINT both end in good order, by SIGABRT neither does.
    for (signal, how) in [
        (Signal::SIGINT, "exit status: 0"),
        (Signal::SIGABRT, "signal: 6"),
    ] {
        let envoy = mortal().await?;
        envoy.process().signal(signal)?;
        envoy.process().exit(SOON).await?;
        ensure_caught(envoy, &format!("has ended by itself ({how}"))?;

        let sidecar = sidecar().await?;
        sidecar.process().signal(signal)?;
        sidecar.process().exit(SOON).await?;
        ensure_caught(sidecar, &format!("has ended by itself ({how}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn ends_that_were_asked_for_fail_nothing() -> Result<()> {
    let envoy = mortal().await?;
    envoy.process().kill();
    ensure!(said_at_drop(envoy).is_none());
    let sidecar = sidecar().await?;
    sidecar.stop().await?;
    ensure!(said_at_drop(sidecar).is_none());
    Ok(())
}

/// A crash on the way out, as a debugger would see it.
#[tokio::test]
async fn a_bad_end_fails_whoever_stops_it() -> Result<()> {
    let envoy = mortal().await?;
    envoy.process().freeze().await?;
    // Both wait for the process to go on; SIGSEGV is taken first. Its handler may meet a mutex that is held,
    // and abort instead.
    envoy.process().signal(Signal::SIGSEGV)?;
    envoy.process().signal(Signal::SIGTERM)?;
    envoy.process().signal(Signal::SIGCONT)?;
    envoy.process().exit(SOON).await?;
    ensure_caught(envoy, "has ended badly (signal: ")
}

#[tokio::test]
async fn a_frozen_envoy_is_let_go_at_once() -> Result<()> {
    let envoy = mortal().await?;
    envoy.process().freeze().await?;
    let start = Instant::now();
    ensure!(said_at_drop(envoy).is_none());
    ensure!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_panic_in_the_sidecars_log_fails_the_story() -> Result<()> {
    let sidecar = sidecar().await?;
    // Its standard error, as if it had written there itself.
    let errors = format!("/proc/{}/fd/2", sidecar.process().pid());
    let mut errors = OpenOptions::new().append(true).open(errors)?;
    errors.write_all(b"thread 'probe' panicked at sidecar/src/health.rs:1:1:\n")?;
    ensure_caught(sidecar, "the sidecar panicked")
}
