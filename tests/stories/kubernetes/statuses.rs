//! What an object says of itself: written when it is news, not too often, and again when it is lost.

use std::collections::BTreeSet;
use std::time::Instant;

use hyper::Method;

use super::*;

/// Statuses that are seen written, one after the other.
const WRITTEN: usize = 4;

#[tokio::test]
async fn what_flaps_is_written_once_a_second() -> Result<()> {
    let one = Upstream::new("one")?;
    let Some(story) = Story::start("what_flaps", &[&one], &[]).await? else {
        return Ok(());
    };
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    let (mut edits, mut said) = (0_usize, BTreeSet::new());
    let begun = Instant::now();
    eventually(
        SOON,
        "several statuses, by one edit after the other",
        async || {
            edits += 1;
            let mut document = registry::cluster("orders", &[&one], json!({}));
            document["backends"][0]["weight"] = json!(1 + edits % 2);
            story.kubernetes.put(&document).await?;
            let object = story.kubernetes.get("orders").await?;
            said.insert(object["status"]["observedGeneration"].as_i64());
            ensure!(said.len() >= WRITTEN, "{said:?}");
            Ok(())
        },
    )
    .await?;
    // One a second, but for the one before and one that was just due.
    let took = begun.elapsed();
    let least = Duration::from_secs(u64::try_from(said.len())? - 2);
    ensure!(took >= least, "{edits} edits: {said:?} within {took:?}");
    ensure!(edits > 2 * said.len(), "{edits} edits say nothing");
    // The last word stands in the end.
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    story.end().await
}

/// Proxies are not told of it, and run it all the same.
#[tokio::test]
async fn another_probe_is_programmed_too() -> Result<()> {
    let one = Upstream::new("one")?;
    let Some(story) = Story::start("another_probe", &[&one], &[]).await? else {
        return Ok(());
    };
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    let check = json!({"healthCheck": {"http": {}, "interval": "50ms"}});
    let document = registry::cluster("orders", &[&one], check);
    story.kubernetes.put(&document).await?;
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    eventually(SOON, "a probe", async || {
        ensure!(!one.probes().is_empty());
        Ok(())
    })
    .await?;
    story.end().await
}

#[tokio::test]
async fn what_somebody_wiped_is_written_with_the_next_full_reading() -> Result<()> {
    let one = Upstream::new("one")?;
    let settings = [("POINTSMAN_RECONCILE_INTERVAL", "1s")];
    let Some(story) = Story::start("what_somebody_wiped", &[&one], &settings).await? else {
        return Ok(());
    };
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    let path = format!("{}/orders/status", story.kubernetes.clusters());
    let wiped = json!({"status": null});
    let wiped = Some(("application/merge-patch+json", &wiped));
    let answer = story.kubernetes.ask(Method::PATCH, &path, wiped).await?;
    let object = answer.ok()?;
    ensure!(object.get("status").is_none(), "{object}");
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    story.end().await
}
