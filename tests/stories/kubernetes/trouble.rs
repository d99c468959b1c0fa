//! The API server is in trouble, or our kind goes and comes. Traffic does not notice.

use harness::Load;
use hyper::Method;

use super::*;

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_later() -> Result<()> {
    let one = Upstream::new("one")?;
    let kubernetes = Kubernetes::start_own("a_server_in_trouble", "answer 500").await?;
    if let Some(kubernetes) = &kubernetes {
        kubernetes.break_for("backendclusters/status")?;
    }
    let Some(story) = serve_on(kubernetes, &[&one], &[]).await? else {
        return Ok(());
    };
    eventually(SOON, "a status that is not taken", async || {
        ensure!(story.store.broken()? > 0, "none was written");
        Ok(())
    })
    .await?;
    story.store.mend()?;
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    // Who writes is not told that the server does not want it.
    story.store.break_for("backendclusters")?;
    let document = registry::cluster("orders", &[&one], json!({"http2": true}));
    let path = "/v1/clusters/orders";
    let written = story.sidecar.ask(Method::PUT, path, &[], &document).await?;
    assert_eq!(written.status, 503, "{}", written.text());
    story.store.mend()?;
    end_well(story).await
}

#[tokio::test]
async fn our_kind_is_deleted_and_made_again_while_running() -> Result<()> {
    let one = Upstream::new("one")?;
    // Long enough that the loss is not confirmed meanwhile.
    let guard = ("POINTSMAN_GUARD_DELAY", "10m");
    let must = "delete our kind";
    let kubernetes = Kubernetes::start_own("our_kind_is_deleted", must).await?;
    let Some(story) = serve_on(kubernetes, &[&one], &[guard]).await? else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(100)
        .start();
    story.store.uninstall().await?;
    story.sidecar.health(503).await?;
    eventually(SOON, "the reason in /status", async || {
        let status = story.sidecar.status().await?;
        let error = status["registry"]["error"].as_str().context("no error")?;
        ensure!(error.contains("404"), "{error}");
        Ok(())
    })
    .await?;
    story.sidecar.serves(&["orders"]).await?;
    story.store.install().await?;
    story.sidecar.health(200).await?;
    let document = registry::cluster("orders", &[&one], json!({}));
    story.store.put(&document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    condition(&story.store, "orders", "Accepted", "Accepted").await?;
    load.stop().await?.ensure_clean()
}
