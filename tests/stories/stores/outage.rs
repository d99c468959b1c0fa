//! The store dies, hangs and comes back; traffic does not notice (RG-24).

use std::time::Duration;

use anyhow::ensure;
use harness::{eventually, throughout};

use super::*;

/// Requests that are answered before an operator has restarted the store, by a load of 200 a second.
const OUTAGE: u64 = 30 * 200;
/// More than twice as long as they take.
const OUTAGE_MAX: Duration = Duration::from_secs(70);
/// A server that hangs is noticed by its silence.
const SILENCE: Duration = Duration::from_secs(45);
const STOP: &str = "stop the API server";

/// `redis` is what `/health` says of Redis while all is well, and `lost` the part of it that is about
/// this store.
async fn killed_and_restarted(kind: Kind, redis: Value, lost: &str) -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut scene = serve(kind, &[&one], &[]).await?;
    let gone = registry::cluster("gone", &[&one], json!({}));
    scene.store.keep(&gone).await?;
    scene.sidecar.serves(&["gone", "orders"]).await?;
    assert_eq!(scene.sidecar.health(200).await?["redis"], redis);
    // Whatever is said of the edit has been said once both workers obey it.
    scene.clients().await?;
    let load = load(&scene);
    let before = scene.sidecar.process().log().lines().count();
    scene.store.kill()?;
    let health = scene.sidecar.health(503).await?;
    assert_eq!(health["status"], "unhealthy");
    assert_eq!(health[lost]["status"], "disconnected");
    let enough = load.done() + OUTAGE;
    let answered = async || {
        ensure!(load.done() >= enough, "{} of {enough}", load.done());
        Ok(())
    };
    let served = async || {
        let ready = scene.sidecar.get("/readyz").await?;
        ensure!(ready.status == 200, "/readyz: {}", ready.status);
        let clusters = scene.sidecar.clusters().await?;
        ensure!(clusters == ["gone", "orders"], "{clusters:?}");
        Ok(())
    };
    throughout(OUTAGE_MAX, "many more requests", answered, served).await?;
    // Invariant 7: a line of the registry, and one of the queue or the lease, however long it lasts.
    let log = scene.sidecar.process().log();
    let written: Vec<&str> = log.lines().skip(before).collect();
    ensure!((1..=2).contains(&written.len()), "{written:#?}");
    if kind == Kind::Redis {
        let page = scene.sidecar.get("/admin/health/redis").await?;
        assert_eq!(page.status, 503);
    }
    // Meanwhile documents change and go.
    scene.store.keep_elsewhere(&orders(&[&one, &two])).await?;
    scene.store.discard_elsewhere("gone").await?;
    scene.sidecar.health(503).await?;
    scene.store.restart().await?;
    scene.sidecar.health(200).await?;
    scene.sidecar.serves(&["orders"]).await?;
    only(&mut scene.envoy.client(), &["one", "two"]).await?;
    println!("{:#?}", scene.sidecar.events("registry_lost"));
    scene.sidecar.event("registry_lost", 1).await?;
    scene.sidecar.event("registry_restored", 1).await?;
    // Notices come on the new connection too.
    let late = registry::cluster("late", &[&one], json!({}));
    scene.store.keep(&late).await?;
    scene.sidecar.serves(&["late", "orders"]).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn rg_24_redis_is_killed_and_restarted_under_load() -> Result<()> {
    let connected = json!({"status": "connected", "backend": "redis"});
    killed_and_restarted(Kind::Redis, connected, "redis").await
}

#[tokio::test]
async fn rg_24_kubernetes_is_killed_and_restarted_under_load() -> Result<()> {
    let there = Kind::own("rg_24_kubernetes_is_killed", STOP)?;
    let off = json!({"status": "disabled", "backend": "kubernetes"});
    match there.contains(&Kind::Kubernetes) {
        true => killed_and_restarted(Kind::Kubernetes, off, "kubernetes").await,
        false => Ok(()),
    }
}

#[tokio::test]
async fn a_hung_store_is_noticed_and_taken_up_again() -> Result<()> {
    let one = Upstream::new("one")?;
    for kind in Kind::own("a_hung_store", STOP)? {
        let mut scene = serve(kind, &[&one], &[]).await?;
        scene.store.hang().await?;
        let says = async |status: u16| {
            eventually(SILENCE, &format!("/health to say {status}"), async || {
                let said = scene.sidecar.get("/health").await?.status;
                ensure!(said == status, "{said}");
                Ok(())
            })
            .await
        };
        says(503).await?;
        only(&mut scene.envoy.client(), &["one"]).await?;
        scene.store.resume()?;
        says(200).await?;
        let late = registry::cluster("late", &[&one], json!({}));
        scene.store.keep(&late).await?;
        scene.sidecar.serves(&["late", "orders"]).await?;
    }
    Ok(())
}
