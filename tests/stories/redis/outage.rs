//! The store dies, hangs and comes back; traffic does not notice.

use harness::{Load, throughout};

use super::*;

/// Requests that are answered before an operator has restarted the store, by a load of 200 a second.
const OUTAGE: u64 = 30 * 200;
/// More than twice as long as they take.
const OUTAGE_MAX: Duration = Duration::from_secs(70);

#[tokio::test]
async fn killed_and_restarted_under_load() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut story = Story::start(Redis::start().await?, &[&one], &[]).await?;
    let health = story.sidecar.health(200).await?;
    assert_eq!(
        health["redis"],
        json!({"status": "connected", "backend": "redis"})
    );
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(200)
        .start();

    let lines = || story.sidecar.process().log().lines().count();
    let before = lines();
    story.redis.kill();
    let health = story.sidecar.health(503).await?;
    assert_eq!(health["status"], "unhealthy");
    assert_eq!(health["redis"]["status"], "disconnected");
    assert_eq!(story.sidecar.get("/admin/health/redis").await?.status, 503);
    let enough = load.done() + OUTAGE;
    let answered = async || {
        ensure!(load.done() >= enough, "{} of {enough}", load.done());
        Ok(())
    };
    let served = async || {
        let ready = story.sidecar.get("/readyz").await?;
        ensure!(ready.status == 200, "/readyz: {}", ready.status);
        ensure!(story.clusters().await? == 1, "the registry is gone");
        Ok(())
    };
    throughout(OUTAGE_MAX, "many more requests", answered, served).await?;
    // Invariant 7: one line of the registry and one of the queue of jobs, however long it lasts.
    let written = lines() - before;
    ensure!((1..=2).contains(&written), "{written} lines of log");
    // Meanwhile the data changes.
    let document = registry::cluster("orders", &[&one, &two], json!({})).to_string();
    story
        .redis
        .ask_elsewhere(&["SET", "pointsman:cluster:orders", &document])
        .await?;
    story.redis.restart().await?;
    story.sidecar.health(200).await?;
    story.served_by_one_of(&["two"]).await?;
    story.sidecar.event("registry_lost", 1).await?;
    story.sidecar.event("registry_restored", 1).await?;
    // Notices come on the new connection too.
    story
        .redis
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.backends("late", &["one"]).await?;
    load.stop().await?.ensure_clean()
}

/// RG-14: nobody could say a word while the store was away.
#[tokio::test]
async fn who_was_silenced_by_an_outage_is_served_by_a_sidecar_that_starts_after_it() -> Result<()> {
    let (one, guest) = (Upstream::new("one")?, Upstream::new("guest")?);
    let redis = Redis::start().await?;
    register(&redis, &guest, &["heartbeatAt", "1"]).await?;
    let story = Story::start(redis, &[&one], &[]).await?;
    story.backends("orders", &["one", "guest"]).await?;
    story.served_by_one_of(&["guest"]).await?;
    // What the first reading deletes is deleted before a later one is told of.
    story
        .redis
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.status_field("late", "backends", "1").await?;
    story.backends("orders", &["one", "guest"]).await?;
    let key = "pointsman:backend:orders:guest";
    let exists = story.redis.ask(&["EXISTS", key]).await?;
    ensure!(exists == Reply::Number(1), "{exists:?}");
    Ok(())
}

#[tokio::test]
async fn a_hung_server_is_noticed_and_taken_up_again() -> Result<()> {
    let one = Upstream::new("one")?;
    let story = Story::start(Redis::start().await?, &[&one], &[]).await?;
    story.redis.hang().await?;
    story.sidecar.health(503).await?;
    story.served_by_one_of(&["one"]).await?;
    story.redis.resume()?;
    story.sidecar.health(200).await?;
    story
        .redis
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.backends("late", &["one"]).await?;
    Ok(())
}

#[tokio::test]
async fn what_no_notice_told_is_found_by_the_next_full_reading() -> Result<()> {
    let one = Upstream::new("one")?;
    let settings = [("POINTSMAN_RECONCILE_INTERVAL", "1s")];
    let story = Story::start(Redis::start().await?, &[&one], &settings).await?;
    // Somebody deletes what the sidecar wrote: it does not listen to its own keys.
    story.status_field("orders", "accepted", "true").await?;
    story.redis.ask(&["DEL", "pointsman:status:orders"]).await?;
    story
        .redis
        .ask(&["HSET", "pointsman:status:nobody", "accepted", "true"])
        .await?;
    story.status_field("orders", "accepted", "true").await?;
    eventually(SOON, "the status of nobody to go", async || {
        let exists = story
            .redis
            .ask(&["EXISTS", "pointsman:status:nobody"])
            .await?;
        ensure!(exists == Reply::Number(0), "{exists:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_older_word_never_replaces_a_newer_one() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = Story::start(Redis::start().await?, &[&one], &[]).await?;
    story.status_field("orders", "backends", "1").await?;
    // Another sidecar has read the registry after everything that this one reads in this story, as far as
    // two clocks may differ.
    let later = "local later = redis.call('TIME')[1] * 1000 + 55000
        return redis.call('HSET', KEYS[1], 'updatedAt', later, 'backends', '7')";
    let later = ["EVAL", later, "1", "pointsman:status:orders"];
    story.redis.ask(&later).await?;
    story
        .redis
        .put(&registry::cluster("orders", &[&one, &two], json!({})))
        .await?;
    story
        .redis
        .put(&registry::cluster("next", &[&one], json!({})))
        .await?;
    // Statuses are written in one go: with this one, that one's turn has come and gone.
    story.status_field("next", "backends", "1").await?;
    story.status_field("orders", "backends", "7").await
}
