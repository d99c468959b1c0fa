//! What several sidecars count together.

use super::*;

/// What this sidecar says of how often all have seen an event.
async fn total(sidecar: &Sidecar, event: &str) -> Result<u64> {
    let detail = sidecar.get("/admin/health/redis").await?.json()?;
    let totals = &detail["counter_backend"]["totals"];
    Ok(totals[event].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn rm_9_the_total_of_two_sidecars_is_their_sum_and_outlives_them() -> Result<()> {
    let one = Upstream::new("one")?;
    let mut story = serve(Redis::start().await?, &[&one], &[]).await?;
    let other = Sidecar::start_on_store(story.store.settings()).await?;
    let known = async |sum: u64| {
        for sidecar in [&story.sidecar, &other] {
            eventually(SOON, &format!("{sum} restorations"), async || {
                let seen = total(sidecar, "registry_restored").await?;
                ensure!(seen == sum, "{seen}");
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    };
    known(0).await?;
    // Both lose the store and find it again.
    story.store.kill();
    for sidecar in [&story.sidecar, &other] {
        eventually(SOON, "the loss to be noticed", async || {
            let health = sidecar.get("/health").await?;
            ensure!(health.status == 503, "{}", health.status);
            Ok(())
        })
        .await?;
    }
    story.store.restart().await?;
    known(2).await?;
    // What was counted stays when a sidecar goes, and is not counted again when it returns.
    story.sidecar.restart().await?;
    let known = async |sidecar: &Sidecar| {
        eventually(SOON, "2 restorations", async || {
            let seen = total(sidecar, "registry_restored").await?;
            ensure!(seen == 2, "{seen}");
            Ok(())
        })
        .await
    };
    known(&story.sidecar).await?;
    known(&other).await
}
