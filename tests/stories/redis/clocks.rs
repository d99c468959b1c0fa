//! Redis's clock is set: that takes nobody out, keeps nobody in, deletes nothing and stops no writer.

use harness::Clock;

use super::*;

const HOURS_MS: i64 = 2 * 3_600_000;
const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");
const SHORT: (&str, &str) = ("POINTSMAN_LEASE_DURATION", "2s");

/// A heartbeat as a backend writes it, by Redis's clock and so much ahead of it.
async fn beat(redis: &Redis, ahead_ms: i64) -> Result<()> {
    let beat = "local time = redis.call('TIME')
        return redis.call('HSET', KEYS[1], 'heartbeatAt',
            string.format('%.0f', time[1] * 1000 + ARGV[1]))";
    let ahead = ahead_ms.to_string();
    let beat = ["EVAL", beat, "1", "pointsman:backend:orders:guest", &ahead];
    redis.ask(&beat).await.map(drop)
}

/// A story over a store that goes by this clock, with a backend `guest` that registered itself.
async fn start(clock: &Clock, one: &Upstream, guest: &Upstream) -> Result<Story> {
    let redis = Redis::start_on(clock).await?;
    let story = serve(redis, &[one], &[OFTEN, SHORT]).await?;
    register(&story.store, guest, &[]).await?;
    beat(&story.store, 0).await?;
    story.sidecar.backends("orders", &["one", "guest"]).await?;
    Ok(story)
}

#[tokio::test]
async fn a_clock_that_is_set_there_and_back_loses_nobody() -> Result<()> {
    let (one, guest) = (Upstream::new("one")?, Upstream::new("guest")?);
    let clock = Clock::new()?;
    let story = start(&clock, &one, &guest).await?;
    let cordon = "local time = redis.call('TIME')
        return redis.call('HSET', KEYS[1], 'one', string.format(
            '{\"state\":\"Cordoned\",\"expiresAt\":%.0f}', time[1] * 1000 + 3600000))";
    let cordon = ["EVAL", cordon, "1", "pointsman:override:orders"];
    story.store.ask(&cordon).await?;
    let mut client = story.envoy.client();
    only(&mut client, &["guest"]).await?;
    for (steps, ahead_ms) in [(1, HOURS_MS), (2, 0), (3, -HOURS_MS)] {
        clock.step_to(ahead_ms)?;
        story.sidecar.event("clock_stepped", steps).await?;
        // Who is heard is heard by any clock, and what became of a document is written.
        beat(&story.store, 0).await?;
        let name = format!("set{steps}");
        let document = registry::cluster(&name, &[&one], json!({}));
        story.store.put(&document).await?;
        story.store.says(&name, "backends", "1").await?;
        story.store.says("orders", "registered", "1").await?;
        only(&mut client, &["guest"]).await?;
        let exists = ["EXISTS", "pointsman:backend:orders:guest"];
        let exists = story.store.ask(&exists).await?;
        ensure!(exists == Reply::Number(1), "{exists:?}");
    }
    story.sidecar.event("registry_guard_held", 0).await?;
    story.sidecar.event("override_expired", 0).await?;
    story.sidecar.event("heartbeat_impossible", 0).await
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_is_named_and_served() -> Result<()> {
    let (one, guest) = (Upstream::new("one")?, Upstream::new("guest")?);
    let clock = Clock::new()?;
    let story = start(&clock, &one, &guest).await?;
    let place = "clusters.orders.backends[guest].heartbeatAt: ";
    let mut named = 0;
    for ahead_ms in [HOURS_MS, -HOURS_MS] {
        beat(&story.store, ahead_ms).await?;
        named += 1;
        story.sidecar.event("heartbeat_impossible", named).await?;
        story.store.says("orders", "warning", place).await?;
        story.store.says("orders", "accepted", "true").await?;
        story.sidecar.backends("orders", &["one", "guest"]).await?;
    }
    Ok(())
}

/// Set back, Redis's clock gives a dead holder hours; and a status of the future is no newer one.
#[tokio::test]
async fn rg_16_a_lease_is_taken_over_by_whose_clock_ever() -> Result<()> {
    let (one, guest) = (Upstream::new("one")?, Upstream::new("guest")?);
    let clock = Clock::new()?;
    let story = start(&clock, &one, &guest).await?;
    story.store.says("orders", "backends", "2").await?;
    let holder = async || {
        story
            .store
            .ask(&["HGET", "pointsman:lease", "holder"])
            .await
    };
    let first = holder().await?;
    story.sidecar.kill();
    clock.step_to(-HOURS_MS)?;
    let settings = story.store.settings().into_iter();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let other = Sidecar::start_on_store(settings.chain([OFTEN, SHORT].map(owned))).await?;
    story
        .store
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.store.says("late", "backends", "1").await?;
    // Also over what the dead one wrote by the clock of before.
    let document = registry::cluster("orders", &[&one, &guest], json!({}));
    story.store.put(&document).await?;
    story.store.says("orders", "registered", "0").await?;
    ensure!(holder().await? != first, "the dead hold the lease");
    other.stop().await
}

/// RG-14, by the sidecar's own clock: after an hour in which it was not heard its record goes, and only then.
#[tokio::test]
async fn rg_14_who_is_silent_for_an_hour_is_deleted() -> Result<()> {
    let guest = Upstream::new("guest")?;
    let (redis, clock) = (Redis::start().await?, Clock::new()?);
    redis
        .put(&registry::cluster("orders", &[], json!({})))
        .await?;
    register(&redis, &guest, &[]).await?;
    beat(&redis, 0).await?;
    let follows = clock.environment();
    let follows = follows.map(|(name, value)| (name.to_owned(), value));
    let sidecar = Sidecar::start_on_store(redis.settings().into_iter().chain(follows)).await?;
    let mut passed = Duration::ZERO;
    let mut let_pass = |seconds| {
        passed += Duration::from_secs(seconds);
        clock.let_pass(passed)
    };
    let backends = async || {
        let status = sidecar.status().await?;
        let backends = status["clusters"][0]["backends"].as_array();
        anyhow::Ok(backends.context("no cluster")?.len())
    };
    ensure!(backends().await? == 1, "it is not served");
    let exists = async || {
        let key = "pointsman:backend:orders:guest";
        redis.ask(&["EXISTS", key]).await
    };
    // Each is a loss that waits for a second reading.
    eventually(SOON, "the silent backend to be out", async || {
        let_pass(91)?;
        ensure!(backends().await? == 0, "it is served");
        Ok(())
    })
    .await?;
    ensure!(exists().await? == Reply::Number(1), "it is deleted early");
    eventually(SOON, "the silent backend's record to go", async || {
        let_pass(601)?;
        ensure!(exists().await? == Reply::Number(0), "it stays");
        Ok(())
    })
    .await?;
    sidecar.event("registry_guard_held", 2).await
}
