//! What is lost by accident is not lost to the traffic.

use harness::{Load, throughout};

use super::*;

const WHILE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_mass_delete_is_held_back_until_it_is_made_good() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let long = ("POINTSMAN_GUARD_DELAY", "10m");
    let Some(story) = Story::start("a_mass_delete_is_held", &[&one, &two], &[long]).await? else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();
    story.kubernetes.delete_all().await?;
    story.sidecar.event("registry_guard_held", 1).await?;
    throughout(WHILE, "the last good registry served", async || {
        ensure!(
            story.clusters().await? == ["orders"],
            "the registry is gone"
        );
        Ok(())
    })
    .await?;
    let status = story.sidecar.status().await?;
    let held = json!({"servedBackends": 2, "foundBackends": 0});
    assert_eq!(status["registry"]["store"]["held"], held);
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    story.kubernetes.put(&document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
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
