//! A change becomes traffic.

use std::time::Instant;

use harness::registry::cluster;

use super::*;

/// Changes that are timed.
const ISOLATED: usize = 30;
/// No pace: every change is delivered as one after a quiet time is.
const UNPACED: (&str, &str) = ("POINTSMAN_CHANGE_INTERVAL", "10ms");
/// Far above what is aimed at (50 ms), for a machine that does much else: the numbers are printed.
const DELIVERY_P50_MAX: Duration = Duration::from_secs(1);

/// The documents: these backends, and the ids of those that drain.
fn orders(backends: &[&Upstream], draining: &[&str]) -> Value {
    let mut document = cluster("orders", backends, json!({}));
    for backend in document["backends"].as_array_mut().into_iter().flatten() {
        if backend["id"]
            .as_str()
            .is_some_and(|id| draining.contains(&id))
        {
            backend["state"] = json!("Draining");
        }
    }
    document
}

#[tokio::test]
async fn add_reweight_drain_remove_break_and_repair() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let redis = &story.store;
    let mut client = story.envoy.client();

    redis.put(&orders(&[&one, &two], &[])).await?;
    only(&mut client, &["one", "two"]).await?;
    story.store.says("orders", "backends", "2").await?;

    let mut reweighted = orders(&[&one, &two], &[]);
    reweighted["backends"][0]["weight"] = json!(0);
    redis.put(&reweighted).await?;
    only(&mut client, &["two"]).await?;

    redis.put(&orders(&[&one, &two], &["two"])).await?;
    only(&mut client, &["one"]).await?;

    redis.put(&orders(&[&one, &two], &[])).await?;
    only(&mut client, &["one", "two"]).await?;
    redis.put(&orders(&[&two], &[])).await?;
    only(&mut client, &["two"]).await?;

    // Broken: said where users look, served as before. Another record still gets through.
    redis
        .ask(&[
            "SET",
            "pointsman:cluster:orders",
            r#"{"name":"orders","weight":1}"#,
        ])
        .await?;
    story.store.says("orders", "accepted", "false").await?;
    story
        .store
        .says(
            "orders",
            "error",
            "clusters.orders.weight: is not a known field",
        )
        .await?;
    redis.put(&cluster("other", &[&one], json!({}))).await?;
    story.sidecar.backends("other", &["one"]).await?;
    only(&mut client, &["two"]).await?;
    redis.ask(&["LPUSH", "pointsman:cluster:list", "x"]).await?;
    story
        .store
        .says("list", "error", "must be a string")
        .await?;

    redis.put(&orders(&[&one], &[])).await?;
    only(&mut client, &["one"]).await?;
    story.store.says("orders", "accepted", "true").await?;
    story.envoy.stop().await?;
    story.sidecar.stop().await
}

#[tokio::test]
async fn an_isolated_change_is_obeyed_soon() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = serve(Redis::start().await?, &[&one, &two], &[UNPACED]).await?;
    story.store.put(&orders(&[&one, &two], &["two"])).await?;
    let mut client = story.envoy.client();
    only(&mut client, &["one"]).await?;
    let mut took = Vec::new();
    for round in 0..ISOLATED {
        let (serves, drains) = if round % 2 == 0 {
            ("two", "one")
        } else {
            ("one", "two")
        };
        let document = orders(&[&one, &two], &[drains]);
        let start = Instant::now();
        story.store.put(&document).await?;
        served_by(&mut client, &[serves]).await?;
        took.push(start.elapsed());
    }
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("write to first request obeying it, {ISOLATED} changes: p50 {p50:?}, p99 {p99:?}");
    ensure!(p50 < DELIVERY_P50_MAX, "{p50:?}");
    Ok(())
}

#[tokio::test]
async fn a_backend_registers_itself_and_goes_with_its_heartbeat() -> Result<()> {
    let (one, guest, beating) = (
        Upstream::new("one")?,
        Upstream::new("guest")?,
        Upstream::new("beating")?,
    );
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let mut client = story.envoy.client();
    register(&story.store, &guest, &[]).await?;
    only(&mut client, &["guest", "one"]).await?;
    story.store.says("orders", "registered", "1").await?;
    story
        .store
        .ask(&["PEXPIRE", "pointsman:backend:orders:guest", "300"])
        .await?;
    only(&mut client, &["one"]).await?;

    // Not by a TTL but by its word. Who counts its silence is the sidecar: see the story of its end.
    register(&story.store, &beating, &["heartbeatAt", "1"]).await?;
    only(&mut client, &["beating", "one"]).await
}

/// No notice tells of it: the next full reading is ten minutes away.
#[tokio::test]
async fn a_database_that_is_swapped_for_another_is_noticed() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let rarely = ("POINTSMAN_RECONCILE_INTERVAL", "10m");
    let story = serve(Redis::start().await?, &[&one], &[rarely]).await?;
    let document = cluster("orders", &[&two], json!({})).to_string();
    let elsewhere = "redis.call('SELECT', 1) return redis.call('SET', KEYS[1], ARGV[1])";
    let write = [
        "EVAL",
        elsewhere,
        "1",
        "pointsman:cluster:orders",
        &document,
    ];
    story.store.ask(&write).await?;
    let mut client = story.envoy.client();
    for served in ["two", "one", "two"] {
        story.store.says("orders", "backends", "1").await?;
        let begun = Instant::now();
        story.store.ask(&["SWAPDB", "0", "1"]).await?;
        served_by(&mut client, &[served]).await?;
        println!("noticed after {:?}", begun.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn an_operators_word_beats_the_document() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut story = serve(Redis::start().await?, &[&one, &two], &[]).await?;
    let mut client = story.envoy.client();
    let word = r#"{"state":"Cordoned","reason":"disk","actor":"me"}"#;
    story
        .store
        .ask(&["HSET", "pointsman:override:orders", "one", word])
        .await?;
    only(&mut client, &["two"]).await?;
    // Writing the document again does not undo it, nor does a restart.
    story.store.put(&orders(&[&one, &two], &[])).await?;
    story.sidecar.restart().await?;
    let backends = story.sidecar.backends("orders", &["one", "two"]).await?;
    assert_eq!(backends[0]["state"], "Cordoned");
    only(&mut client, &["two"]).await?;
    story
        .store
        .ask(&["HDEL", "pointsman:override:orders", "one"])
        .await?;
    only(&mut client, &["one", "two"]).await
}
