//! The registry in a Redis Cluster: all of it on one node, whichever that is.

use harness::Load;
use harness::redis::Cluster;

use super::*;

const PASSWORD: &str = "s3cr3t-geheim";

/// Waits until the sidecar serves this cluster.
async fn serves(sidecar: &Sidecar, cluster: &str) -> Result<()> {
    eventually(SOON, &format!("{cluster} to be served"), async || {
        let status = sidecar.status().await?;
        let all = status["clusters"].as_array().context("clusters")?;
        let names: Vec<&Value> = all.iter().map(|it| &it["name"]).collect();
        ensure!(names.iter().any(|name| **name == cluster), "{names:?}");
        Ok(())
    })
    .await
}

/// Waits for `/health` to say this.
async fn health(sidecar: &Sidecar, status: u16) -> Result<()> {
    eventually(SOON, &format!("/health to say {status}"), async || {
        let response = sidecar.get("/health").await?;
        ensure!(response.status == status, "{}", response.text());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_node_that_holds_the_registry_is_found_and_followed() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut redis = Cluster::start(PASSWORD).await?;
    redis
        .put(&registry::cluster("orders", &[&one], json!({})))
        .await?;
    let sidecar = Sidecar::start_on_store(redis.settings()).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    served_by(&mut envoy.client(), &["one"]).await?;
    let load = Load::new(envoy.address(), u64::MAX).per_second(100).start();

    // Its slot moves to the next node, key by key.
    for name in ["a", "b", "c", "d"] {
        redis
            .put(&registry::cluster(name, &[&one], json!({})))
            .await?;
    }
    serves(&sidecar, "d").await?;
    redis.move_registry().await?;
    redis
        .put(&registry::cluster("orders", &[&two], json!({})))
        .await?;
    served_by(&mut envoy.client(), &["two"]).await?;
    let status = sidecar.status().await?;
    assert_eq!(status["clusters"].as_array().map(Vec::len), Some(5));

    // That node dies and comes back.
    redis.agreed().await?;
    let owner = redis.owner().await?;
    redis.node(owner).kill();
    health(&sidecar, 503).await?;
    redis.node(owner).restart().await?;
    redis.agreed().await?;
    health(&sidecar, 200).await?;
    redis
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    serves(&sidecar, "late").await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn one_named_node_is_enough_and_an_empty_registry_is_followed() -> Result<()> {
    let one = Upstream::new("one")?;
    let redis = Cluster::start(PASSWORD).await?;
    let sidecar = Sidecar::start_on_store(redis.settings_of_a_bystander().await?).await?;
    // There is no key that could be missed.
    redis.move_registry().await?;
    redis
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    serves(&sidecar, "late").await?;
    sidecar.stop().await
}
