//! What nobody could say, or nobody was told of.

use super::*;

/// RG-14: nobody could say a word while the store was away.
#[tokio::test]
async fn who_was_silenced_by_an_outage_is_served_by_a_sidecar_that_starts_after_it() -> Result<()> {
    let (one, guest) = (Upstream::new("one")?, Upstream::new("guest")?);
    let redis = Redis::start().await?;
    register(&redis, &guest, &["heartbeatAt", "1"]).await?;
    let story = serve(redis, &[&one], &[]).await?;
    story.sidecar.backends("orders", &["one", "guest"]).await?;
    served_by(&mut story.envoy.client(), &["guest"]).await?;
    // What the first reading deletes is deleted before a later one is told of.
    story
        .store
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.store.says("late", "backends", "1").await?;
    story.sidecar.backends("orders", &["one", "guest"]).await?;
    let key = "pointsman:backend:orders:guest";
    let exists = story.store.ask(&["EXISTS", key]).await?;
    ensure!(exists == Reply::Number(1), "{exists:?}");
    Ok(())
}

#[tokio::test]
async fn what_no_notice_told_is_found_by_the_next_full_reading() -> Result<()> {
    let one = Upstream::new("one")?;
    let settings = [("POINTSMAN_RECONCILE_INTERVAL", "1s")];
    let story = serve(Redis::start().await?, &[&one], &settings).await?;
    // Somebody deletes what the sidecar wrote: it does not listen to its own keys.
    story.store.says("orders", "accepted", "true").await?;
    story.store.ask(&["DEL", "pointsman:status:orders"]).await?;
    story
        .store
        .ask(&["HSET", "pointsman:status:nobody", "accepted", "true"])
        .await?;
    story.store.says("orders", "accepted", "true").await?;
    eventually(SOON, "the status of nobody to go", async || {
        let exists = story
            .store
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
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    story.store.says("orders", "backends", "1").await?;
    // Another sidecar has read the registry after everything that this one reads in this story, as far as
    // two clocks may differ.
    let later = "local later = redis.call('TIME')[1] * 1000 + 55000
        return redis.call('HSET', KEYS[1], 'updatedAt', later, 'backends', '7')";
    let later = ["EVAL", later, "1", "pointsman:status:orders"];
    story.store.ask(&later).await?;
    story
        .store
        .put(&registry::cluster("orders", &[&one, &two], json!({})))
        .await?;
    story
        .store
        .put(&registry::cluster("next", &[&one], json!({})))
        .await?;
    // Statuses are written in one go: with this one, that one's turn has come and gone.
    story.store.says("next", "backends", "1").await?;
    story.store.says("orders", "backends", "7").await
}
