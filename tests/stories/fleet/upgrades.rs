//! The filter's module is replaced while it serves (DESIGN §5): by another build, which is another
//! VM, and back, while streams hold the old one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::websocket::WebSocket;
use harness::{Load, artefacts, eventually};
use serde_json::json;

use super::scene::{CLUSTER, SOON, Scene, WORKERS, answered_by, backends, orders};

/// A sidecar has to know that every worker runs a change.
const PROGRAMMED: Duration = Duration::from_secs(30);
/// Longer than all of it takes.
const BACKOFF: Duration = Duration::from_secs(600);
/// VMs of Envoy that run a module, living or not.
const VMS: &str = "wasm.envoy.wasm.runtime.v8.created";

/// Starts the sidecar with another build of the module, and waits for its VMs.
async fn upgrade(scene: &mut Scene, number: u8, file: &Path, vms: u64) -> Result<u64> {
    let before = scene.envoy.stat(VMS).await?;
    artefacts::write_build(number, file)?;
    scene.sidecar.restart().await?;
    scene.envoy.wait_for_stat_at_least(VMS, before + vms).await
}

/// Lets a change be known to run everywhere, and fails where more than one VM posts.
async fn edit(scene: &mut Scene, weight: u32) -> Result<()> {
    let start = Instant::now();
    scene
        .edit(|registry| registry.edit_backend(CLUSTER, "a", |a| a["weight"] = weight.into()))
        .await?;
    let programmed = start.elapsed();
    let beats = scene.time_of_exchanges(4).await?;
    println!("an edit ran everywhere after {programmed:?}; 4 exchanges took {beats:?}");
    ensure!(programmed < PROGRAMMED);
    // Two that post would need two seconds.
    ensure!(beats > Duration::from_secs(3), "more than one VM posts");
    Ok(())
}

#[tokio::test]
async fn the_module_is_replaced_under_load_and_back_while_streams_hold_the_old_one() -> Result<()> {
    let [a, b, dead] = backends(["a", "b", "dead"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pointsman.wasm");
    artefacts::write_build(1, &file)?;
    let module = format!("inline:{}", file.display());
    let settings = [("POINTSMAN_WASM", module.as_str())];
    let backoff = json!({"backoff": {"base": "600s", "max": "600s"}});
    let mut scene = Scene::start_with(vec![orders(&[&a, &b, &dead], backoff)], &settings).await?;
    let mut clients = scene.clients().await?;
    dead.stop().await;
    eventually(SOON, "the back-off to begin", async || {
        answered_by(&mut clients, 6).await?;
        let opened = scene.figure("events_total", "backoff_opened").await?;
        ensure!(opened > 0, "nobody tried it");
        Ok(())
    })
    .await?;
    let backed_off = Instant::now();
    dead.start()?;
    dead.forget();
    let mut sockets = Vec::new();
    // Each worker's VM is held.
    for _ in 0..2 * WORKERS {
        sockets.push(WebSocket::open(scene.envoy.address(), "/held").await?);
    }
    let load = Load::new(scene.envoy.address(), u64::MAX)
        .connections(4)
        .per_second(200)
        .start();
    edit(&mut scene, 101).await?;
    // The main thread's and each worker's. On the way back the workers' old ones still live.
    let there = upgrade(&mut scene, 2, &file, u64::from(WORKERS) + 1).await?;
    edit(&mut scene, 102).await?;
    let back = upgrade(&mut scene, 1, &file, 1).await?;
    edit(&mut scene, 103).await?;
    let stood = backed_off.elapsed();
    let tally = load.stop().await?;
    println!(
        "{} requests, {} VMs there, {} back; the back-off stood {stood:?}",
        tally.sent(),
        there,
        back
    );
    tally.ensure_clean()?;
    ensure!(
        stood < BACKOFF && dead.hits() == 0,
        "{stood:?}, {} hits",
        dead.hits()
    );
    for socket in &mut sockets {
        ensure!(socket.echo("still here").await? == "still here");
    }
    scene.ensure_sane().await
}
