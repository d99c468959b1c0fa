//! Envoy and the sidecar come up in any order.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Behaviour, Client, Envoy, Registry, Sidecar, Upstream, artefacts, eventually};
use serde_json::json;

use crate::fleet::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, bootstrap, check, orders, wait_for_servers,
};

/// Two fetch timeouts of two seconds each, and what a start takes on a busy machine.
const START_ALONE: Duration = Duration::from_secs(2 + 2 + 4);
/// From the sidecar's return to the first answer.
const RECOVERY: Duration = Duration::from_secs(2);

fn scene_of(backends: &[&Upstream]) -> Result<Registry> {
    let extra = json!({"healthCheck": check(50, 1)});
    Registry::new(vec![orders(backends, extra)])
}

/// Without the sidecar requests are answered 503 by Envoy itself, for it knows no cluster yet.
async fn ensure_unserved(client: &mut Client) -> Result<()> {
    let response = client.get("/").await?;
    ensure!(
        response.status == 503 && response.backend().is_none(),
        "{}",
        response.status
    );
    Ok(())
}

/// The sidecar comes: requests find their backends, and verdicts arrive, on both workers.
async fn recover(scene: &mut Scene, a: &Upstream) -> Result<()> {
    let mut clients = scene.envoy.pinned_clients().await?;
    ensure_unserved(&mut clients[0]).await?;
    ensure_unserved(&mut clients[1]).await?;
    scene.sidecar.restart().await?;
    let ready = Instant::now();
    eventually(SOON, "an answer of a backend on each worker", async || {
        for client in &mut clients {
            let response = client.get("/").await?;
            ensure!(response.status == 200, "{}", response.status);
        }
        Ok(())
    })
    .await?;
    let served = ready.elapsed();
    scene.wait_for_the_workers().await?;
    let applied = ready.elapsed();
    a.set_health(Behaviour::status(500));
    let obeyed = wait_for_servers(&mut clients, &["b"]).await?;
    println!(
        "after the sidecar was ready: first answers {served:?}, every worker reports {applied:?}; \
         then a flip is obeyed after {obeyed:?}"
    );
    ensure!(served < RECOVERY && applied < RECOVERY + Duration::from_secs(2));
    ensure!(obeyed < RECOVERY);
    ensure!(scene.figure("picks_total", "spill").await? == 0);
    scene.ensure_sane().await
}

#[tokio::test]
async fn an_envoy_that_restarts_without_the_sidecar_serves_as_soon_as_it_is_back() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let registry = scene_of(&[&a, &b])?;
    let sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(bootstrap(&sidecar)?).await?;
    let mut scene = Scene {
        envoy,
        sidecar,
        store: registry,
    };
    drop(scene.clients().await?);
    scene.sidecar.kill();
    let start = Instant::now();
    scene.envoy.restart().await?;
    let alone = start.elapsed();
    println!("Envoy restarted without the sidecar: ready after {alone:?}");
    ensure!(alone < START_ALONE);
    recover(&mut scene, &a).await
}

#[tokio::test]
async fn an_envoy_that_starts_before_the_sidecar_waits_for_it_without_dying() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let registry = scene_of(&[&a, &b])?;
    // Only for its address: this Envoy never hears of it.
    let sidecar = Sidecar::start(&registry).await?;
    sidecar.kill();
    let start = Instant::now();
    let envoy = Envoy::start(bootstrap(&sidecar)?).await?;
    let alone = start.elapsed();
    println!("Envoy started before the sidecar: ready after {alone:?}");
    ensure!(alone < START_ALONE);
    let mut scene = Scene {
        envoy,
        sidecar,
        store: registry,
    };
    recover(&mut scene, &a).await
}

#[tokio::test]
async fn the_module_can_travel_with_the_configuration() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let module = format!("inline:{}", artefacts::module()?.display());
    let settings = [("POINTSMAN_WASM", module.as_str())];
    let mut scene = Scene::on(scene_of(&[&a, &b])?, &[], &settings).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let took = scene
        .edit(|registry| registry.edit_backend(CLUSTER, "b", |b| b["weight"] = 7.into()))
        .await?;
    let order = answered_by(&mut clients, 40).await?;
    println!("an edit reached every worker after {took:?}, the verdict stands");
    ensure!(order.iter().all(|backend| backend == "b"));
    scene.ensure_sane().await
}
