//! What is lost by accident is not lost to the traffic.

use harness::load::Running;
use harness::{Load, throughout};

use super::*;

/// Long enough that a story is through before a loss is confirmed.
const LONG: (&str, &str) = ("POINTSMAN_GUARD_DELAY", "10m");
const SHORT: (&str, &str) = ("POINTSMAN_GUARD_DELAY", "1s");
/// The store is read again and again meanwhile.
const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");

/// Waits until a loss is held back: how many backends are served, and how many were found.
async fn held(story: &Story, served: usize, found: usize) -> Result<()> {
    story.sidecar.health(200).await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    let held = json!({"servedBackends": served, "foundBackends": found});
    eventually(SOON, &format!("{held} to be held"), async || {
        let status = story.sidecar.status().await?;
        let said = &status["registry"]["store"]["held"];
        ensure!(*said == held, "{said}");
        Ok(())
    })
    .await
}

/// Fails when this does not hold while the store is read three more times.
async fn throughout_readings(story: &Story, holds: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let listings = async || {
        let status = story.sidecar.status().await?;
        let listings = &status["registry"]["store"]["listings"];
        listings.as_u64().context("no listings")
    };
    let enough = listings().await? + 3;
    let read = async || {
        let listings = listings().await?;
        ensure!(listings >= enough, "{listings} of {enough}");
        Ok(())
    };
    throughout(SOON, "three more readings", read, holds).await
}

/// The data is brought back: nothing has happened.
async fn made_good(story: &Story, document: &Value, load: Running) -> Result<()> {
    story.redis.put(document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn a_store_that_comes_back_empty_harms_nobody() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut story = Story::start(Redis::start().await?, &[&one, &two], &[LONG, OFTEN]).await?;
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.redis.kill();
    story.sidecar.health(503).await?;
    story.redis.forget()?;
    story.redis.restart().await?;
    held(&story, 2, 0).await?;
    throughout_readings(&story, async || {
        ensure!(story.clusters().await? == 1, "the registry is gone");
        Ok(())
    })
    .await?;
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    made_good(&story, &document, load).await
}

#[tokio::test]
async fn a_flush_is_held_back_and_a_confirmed_delete_goes_through() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = Story::start(Redis::start().await?, &[&one, &two], &[SHORT]).await?;
    story
        .redis
        .put(&registry::cluster("other", &[&one, &two], json!({})))
        .await?;
    story.backends("other", &["one", "two"]).await?;
    story.redis.ask(&["FLUSHDB"]).await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    // Nobody brings it back: it was meant.
    eventually(SOON, "the delete to go through", async || {
        let clusters = story.clusters().await?;
        ensure!(clusters == 0, "{clusters} clusters");
        Ok(())
    })
    .await?;
    story.sidecar.event("registry_guard_released", 1).await
}

#[tokio::test]
async fn a_store_that_comes_back_with_a_tenth_harms_nobody() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let backend = |i: usize| {
        let address = [&one, &two][i % 2].address().to_string();
        json!({"id": format!("b{i}"), "address": address})
    };
    let document = |count: usize| -> Value {
        let backends: Vec<Value> = (0..count).map(backend).collect();
        json!({"name": "orders", "backends": backends})
    };
    let mut story = Story::start(Redis::start().await?, &[&one, &two], &[LONG, OFTEN]).await?;
    story.redis.put(&document(10)).await?;
    let ids: Vec<String> = (0..10).map(|i| format!("b{i}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    story.backends("orders", &ids).await?;
    story.status_field("orders", "backends", "10").await?;
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.redis.kill();
    story.sidecar.health(503).await?;
    let tenth = document(1).to_string();
    let write = ["SET", "pointsman:cluster:orders", &tenth];
    story.redis.ask_elsewhere(&write).await?;
    story.redis.restart().await?;
    held(&story, 10, 1).await?;
    let kept = ["EXISTS", "pointsman:status:orders"];
    throughout_readings(&story, async || {
        story.backends("orders", &ids).await?;
        let exist = story.redis.ask(&kept).await?;
        ensure!(exist == Reply::Number(1), "{exist:?}");
        Ok(())
    })
    .await?;
    made_good(&story, &document(9), load).await?;
    story.backends("orders", &ids[..9]).await.map(drop)
}
