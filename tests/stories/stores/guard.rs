//! What is lost by accident is not lost to the traffic.

use anyhow::ensure;
use harness::load::Running;
use harness::{SOON, eventually};

use super::*;

/// Long enough that a story is through before a loss is confirmed.
const LONG: (&str, &str) = ("POINTSMAN_GUARD_DELAY", "10m");
const SHORT: (&str, &str) = ("POINTSMAN_GUARD_DELAY", "1s");
/// The store is read again and again meanwhile.
const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");
const STOP: &str = "stop the API server";

/// Waits until a loss is held back: how many backends are served, and how many were found.
async fn held(scene: &Scene<Store>, served: usize, found: usize) -> Result<()> {
    scene.sidecar.health(200).await?;
    scene.sidecar.event("registry_guard_held", 1).await?;
    let held = json!({"servedBackends": served, "foundBackends": found});
    eventually(SOON, &format!("{held} to be held"), async || {
        let status = scene.sidecar.status().await?;
        let said = &status["registry"]["store"]["held"];
        ensure!(*said == held, "{said}");
        Ok(())
    })
    .await
}

/// The data is brought back: nothing has happened.
async fn made_good(scene: &mut Scene<Store>, document: &Value, load: Running) -> Result<()> {
    scene.store.keep(document).await?;
    scene.sidecar.event("registry_guard_released", 1).await?;
    load.stop().await?.ensure_clean()
}

/// All is lost, in this way; and made good later.
async fn lose_all(
    kind: Kind,
    lose: impl AsyncFnOnce(&mut Scene<Store>) -> Result<()>,
) -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut scene = serve(kind, &[&one, &two], &[LONG, OFTEN]).await?;
    let load = load(&scene);
    lose(&mut scene).await?;
    held(&scene, 2, 0).await?;
    let readings = scene.sidecar.throughout_readings(async || {
        let clusters = scene.sidecar.clusters().await?;
        ensure!(clusters == ["orders"], "{clusters:?}");
        Ok(())
    });
    readings.await?;
    made_good(&mut scene, &orders(&[&one, &two]), load).await
}

#[tokio::test]
async fn a_mass_delete_is_held_back_until_it_is_made_good() -> Result<()> {
    for kind in Kind::own("a_mass_delete_is_held_back", "delete everything")? {
        lose_all(kind, async |scene| scene.store.clear().await).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_comes_back_empty_harms_nobody() -> Result<()> {
    for kind in Kind::own("a_store_that_comes_back_empty", STOP)? {
        let empty = async |scene: &mut Scene<Store>| {
            scene.store.kill()?;
            scene.sidecar.health(503).await?;
            scene.store.clear_elsewhere().await?;
            scene.store.restart().await
        };
        lose_all(kind, empty).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_comes_back_with_a_tenth_harms_nobody() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let ids: Vec<String> = (0..10).map(|i| format!("b{i}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let document = |count: usize| -> Value {
        let backend = |(id, i): (&&str, usize)| {
            let address = [&one, &two][i % 2].address().to_string();
            json!({"id": id, "address": address})
        };
        let backends: Vec<Value> = ids.iter().zip(0..count).map(backend).collect();
        json!({"name": "orders", "backends": backends})
    };
    for kind in Kind::own("a_store_that_comes_back_with_a_tenth", STOP)? {
        let mut scene = serve(kind, &[&one, &two], &[LONG, OFTEN]).await?;
        scene.store.keep(&document(10)).await?;
        scene.sidecar.backends("orders", &ids).await?;
        let load = load(&scene);
        scene.store.kill()?;
        scene.sidecar.health(503).await?;
        scene.store.keep_elsewhere(&document(1)).await?;
        scene.store.restart().await?;
        held(&scene, 10, 1).await?;
        let readings = scene
            .sidecar
            .throughout_readings(async || scene.sidecar.backends("orders", &ids).await.map(drop));
        readings.await?;
        made_good(&mut scene, &document(9), load).await?;
        scene.sidecar.backends("orders", &ids[..9]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_confirmed_delete_goes_through() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    for kind in Kind::own("a_confirmed_delete", "delete everything")? {
        let mut scene = serve(kind, &[&one, &two], &[SHORT]).await?;
        scene.store.clear().await?;
        scene.sidecar.event("registry_guard_held", 1).await?;
        // Nobody brings it back: it was meant.
        scene.sidecar.serves(&[]).await?;
        scene.sidecar.event("registry_guard_released", 1).await?;
    }
    Ok(())
}
