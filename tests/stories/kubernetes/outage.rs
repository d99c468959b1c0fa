//! The API server dies, hangs, is in trouble and comes back; our kind goes and comes. Traffic does
//! not notice.

use harness::{Load, throughout};
use hyper::Method;

use super::*;

/// Requests that are answered before an operator has restarted the store, by a load of 200 a second.
const OUTAGE: u64 = 30 * 200;
/// More than twice as long as they take.
const OUTAGE_MAX: Duration = Duration::from_secs(70);
/// A server that hangs is noticed by its silence.
const SILENCE: Duration = Duration::from_secs(45);

#[tokio::test]
async fn rg_24_killed_and_restarted_under_load() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(mut story) = Story::start_own("killed_and_restarted", &[&one], &[]).await? else {
        return Ok(());
    };
    let gone = registry::cluster("gone", &[&one], json!({}));
    story.kubernetes.put(&gone).await?;
    story.serves(&["gone", "orders"]).await?;
    let health = story.sidecar.health(200).await?;
    let redis = json!({"status": "disabled", "backend": "kubernetes"});
    assert_eq!(health["redis"], redis);
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();

    story.kubernetes.kill()?;
    let health = story.sidecar.health(503).await?;
    assert_eq!(health["kubernetes"]["status"], "disconnected");
    let enough = load.done() + OUTAGE;
    let answered = async || {
        ensure!(load.done() >= enough, "{} of {enough}", load.done());
        Ok(())
    };
    let served = async || {
        let ready = story.sidecar.get("/readyz").await?;
        ensure!(ready.status == 200, "/readyz: {}", ready.status);
        let clusters = story.clusters().await?;
        ensure!(clusters == ["gone", "orders"], "{clusters:?}");
        Ok(())
    };
    throughout(OUTAGE_MAX, "many more requests", answered, served).await?;
    // Meanwhile objects change and go.
    let elsewhere = story.kubernetes.elsewhere().await?;
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    elsewhere.put(&document).await?;
    elsewhere.delete(&elsewhere.clusters(), "gone").await?;
    drop(elsewhere);
    story.sidecar.health(503).await?;
    story.kubernetes.restart().await?;
    story.sidecar.health(200).await?;
    story.serves(&["orders"]).await?;
    only(&mut story.envoy.client(), &["one", "two"]).await?;
    story.sidecar.event("registry_lost", 1).await?;
    story.sidecar.event("registry_restored", 1).await?;
    // Notices come on the new watch too.
    let late = registry::cluster("late", &[&one], json!({}));
    story.kubernetes.put(&late).await?;
    story.serves(&["late", "orders"]).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn a_hung_server_is_noticed_and_taken_up_again() -> Result<()> {
    let one = Upstream::new("one")?;
    let Some(story) = Story::start_own("a_hung_server", &[&one], &[]).await? else {
        return Ok(());
    };
    story.kubernetes.hang().await?;
    eventually(SILENCE, "the silence to be noticed", async || {
        let status = story.sidecar.get("/health").await?.status;
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await?;
    only(&mut story.envoy.client(), &["one"]).await?;
    story.kubernetes.resume()?;
    eventually(SILENCE, "the server to be taken up again", async || {
        let status = story.sidecar.get("/health").await?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    let late = registry::cluster("late", &[&one], json!({}));
    story.kubernetes.put(&late).await?;
    story.serves(&["late", "orders"]).await
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_later() -> Result<()> {
    let one = Upstream::new("one")?;
    let kubernetes = Kubernetes::start_own("a_server_in_trouble", "answer 500").await?;
    if let Some(kubernetes) = &kubernetes {
        kubernetes.break_for("backendclusters/status")?;
    }
    let Some(story) = Story::on(kubernetes, &[&one], &[]).await? else {
        return Ok(());
    };
    eventually(SOON, "a status that is not taken", async || {
        ensure!(story.kubernetes.broken()? > 0, "none was written");
        Ok(())
    })
    .await?;
    story.kubernetes.mend()?;
    story
        .condition("orders", "Programmed", "Programmed")
        .await?;
    // Who writes is not told that the server does not want it.
    story.kubernetes.break_for("backendclusters")?;
    let document = registry::cluster("orders", &[&one], json!({"http2": true}));
    let path = "/v1/clusters/orders";
    let written = story.sidecar.ask(Method::PUT, path, &[], &document).await?;
    assert_eq!(written.status, 503, "{}", written.text());
    story.kubernetes.mend()?;
    story.end().await
}

#[tokio::test]
async fn our_kind_is_deleted_and_made_again_while_running() -> Result<()> {
    let one = Upstream::new("one")?;
    // Long enough that the loss is not confirmed meanwhile.
    let guard = ("POINTSMAN_GUARD_DELAY", "10m");
    let must = "delete our kind";
    let kubernetes = Kubernetes::start_own("our_kind_is_deleted", must).await?;
    let Some(story) = Story::on(kubernetes, &[&one], &[guard]).await? else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(100)
        .start();
    story.kubernetes.uninstall().await?;
    story.sidecar.health(503).await?;
    eventually(SOON, "the reason in /status", async || {
        let status = story.sidecar.status().await?;
        let error = status["registry"]["error"].as_str().context("no error")?;
        ensure!(error.contains("404"), "{error}");
        Ok(())
    })
    .await?;
    ensure!(
        story.clusters().await? == ["orders"],
        "the registry is gone"
    );
    story.kubernetes.install().await?;
    story.sidecar.health(200).await?;
    let document = registry::cluster("orders", &[&one], json!({}));
    story.kubernetes.put(&document).await?;
    story.sidecar.event("registry_guard_released", 1).await?;
    story.condition("orders", "Accepted", "Accepted").await?;
    load.stop().await?.ensure_clean()
}
