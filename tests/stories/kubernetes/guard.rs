//! What is lost by accident is not lost to the traffic.

use harness::{Load, throughout};

use super::*;

/// Long enough that a story is through before a loss is confirmed.
const LONG: (&str, &str) = ("POINTSMAN_GUARD_DELAY", "10m");
/// Everything is read again and again meanwhile.
const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");

impl Story {
    /// How many backends of `orders` the sidecar serves.
    pub async fn backends(&self) -> Result<usize> {
        let status = self.sidecar.status().await?;
        let backends = status["clusters"][0]["backends"].as_array();
        Ok(backends.context("backends")?.len())
    }

    /// Waits until it serves so many.
    async fn serves_backends(&self, count: usize) -> Result<()> {
        eventually(SOON, &format!("{count} backends"), async || {
            let backends = self.backends().await?;
            ensure!(backends == count, "{backends}");
            Ok(())
        })
        .await
    }

    /// Waits until a loss of this size is held back.
    async fn held(&self, served: usize, found: usize) -> Result<()> {
        let held = json!({"servedBackends": served, "foundBackends": found});
        eventually(SOON, &format!("{held} to be held"), async || {
            let status = self.sidecar.status().await?;
            let said = &status["registry"]["store"]["held"];
            ensure!(*said == held, "{said}");
            Ok(())
        })
        .await
    }

    /// Fails when this does not hold while everything is read three more times.
    async fn throughout_readings(&self, holds: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let enough = self.listings().await? + 3;
        let read = async || {
            let listings = self.listings().await?;
            ensure!(listings >= enough, "{listings} of {enough}");
            Ok(())
        };
        throughout(SOON, "three more readings", read, holds).await
    }
}

#[tokio::test]
async fn a_mass_delete_is_held_back_until_it_is_made_good() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(story) = Story::start("a_mass_delete_is_held", &[&one, &two], &[LONG, OFTEN]).await?
    else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.kubernetes.delete_all().await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    story
        .throughout_readings(async || {
            let clusters = story.clusters().await?;
            ensure!(clusters == ["orders"], "{clusters:?}");
            Ok(())
        })
        .await?;
    story.held(2, 0).await?;
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    story.kubernetes.put(&document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn a_store_that_comes_back_empty_harms_nobody() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let name = "a_store_that_comes_back_empty";
    let Some(mut story) = Story::start_own(name, &[&one, &two], &[LONG, OFTEN]).await? else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.kubernetes.kill()?;
    story.sidecar.health(503).await?;
    story.kubernetes.elsewhere().await?.delete_all().await?;
    story.kubernetes.restart().await?;
    story.sidecar.health(200).await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    story
        .throughout_readings(async || {
            let clusters = story.clusters().await?;
            ensure!(clusters == ["orders"], "{clusters:?}");
            Ok(())
        })
        .await?;
    story.held(2, 0).await?;
    // The objects are brought back: nothing has happened.
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    story.kubernetes.put(&document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    load.stop().await?.ensure_clean()
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
    let name = "a_store_that_comes_back_with_a_tenth";
    let Some(mut story) = Story::start_own(name, &[&one, &two], &[LONG, OFTEN]).await? else {
        return Ok(());
    };
    story.kubernetes.put(&document(10)).await?;
    story.serves_backends(10).await?;
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.kubernetes.kill()?;
    story.sidecar.health(503).await?;
    story
        .kubernetes
        .elsewhere()
        .await?
        .put(&document(1))
        .await?;
    story.kubernetes.restart().await?;
    story.sidecar.health(200).await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    story.held(10, 1).await?;
    story
        .throughout_readings(async || {
            let backends = story.backends().await?;
            ensure!(backends == 10, "{backends}");
            Ok(())
        })
        .await?;
    story.kubernetes.put(&document(9)).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    story.serves_backends(9).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn a_confirmed_delete_goes_through() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let short = ("POINTSMAN_GUARD_DELAY", "1s");
    let Some(story) = Story::start("a_confirmed_delete", &[&one, &two], &[short]).await? else {
        return Ok(());
    };
    story.kubernetes.delete_all().await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    story.serves(&[]).await?;
    story.sidecar.event("registry_guard_released", 1).await
}
