//! A backend that answers that it has too much to do is left alone, by all workers at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, Load, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, SOON, backends, bootstrap, figure, serve, wait_for_figure};

const WORKERS: u32 = 4;
/// What comes so soon after a 429 was picked before any worker knew of it.
const AT_ONCE: Duration = Duration::from_millis(150);
/// Far longer than the pause between two requests of a load, on a busy machine too.
const SLACK: Duration = Duration::from_secs(5);
/// Every cooldown with a base of 200 ms and a maximum of 2 s.
const WINDOWS_MS: [u64; 5] = [400, 800, 1600, 2000, 2000];

/// RT-12, 13, 18, 19: 0 requests inside any window, whichever worker takes them.
#[tokio::test]
async fn rt_12_19_a_429_keeps_all_workers_away_for_twice_as_long_each_time() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "passive": {"cooldown": {"base": "200ms", "max": "2s"}},
    });
    let document = cluster(CLUSTER, &[&a, &b], settings);
    let envoy = bootstrap(&document)?.concurrency(WORKERS).exact_balance()?;
    let envoy = Envoy::start(envoy).await?;
    a.set(Behaviour::status(429));
    let load = Load::new(envoy.address(), u64::MAX)
        .connections(8)
        .per_second(400)
        .start();
    let tries = || {
        let mut tries: Vec<Instant> = a.requests().iter().map(|request| request.at).collect();
        tries.dedup_by(|next, first| next.saturating_duration_since(*first) < AT_ONCE);
        tries
    };
    eventually(SOON, "a try after each cooldown", async || {
        let seen = tries().len();
        ensure!(seen > WINDOWS_MS.len(), "{seen}");
        Ok(())
    })
    .await?;
    let tally = load.stop().await?;
    let (tries, hits) = (tries(), a.hits());
    let started = envoy.events().into_iter();
    let started = started.filter(|event| event.name() == "cooldown_started");
    let waits: Result<Vec<u64>, _> = started.map(|it| it.field("wait_ms").parse()).collect();
    let waits = waits?;
    let pauses: Vec<Duration> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    println!(
        "{} requests on {WORKERS} workers: {hits} answered 429 at {} times; cooldowns {waits:?} ms, \
         left alone for {pauses:?}",
        tally.sent(),
        tries.len()
    );
    ensure!(waits.starts_with(&WINDOWS_MS), "{waits:?}");
    for (pause, window) in pauses.iter().zip(WINDOWS_MS.map(Duration::from_millis)) {
        ensure!(
            *pause >= window && *pause < window + SLACK,
            "{pause:?} for {window:?}"
        );
    }
    // The clients got those 429s and nothing else that is wrong.
    ensure!(
        tally.failed() == u64::try_from(hits)?,
        "{} failed",
        tally.failed()
    );
    ensure!(figure(&envoy, "cooldowns_total", "status").await? == u64::try_from(waits.len())?);
    Ok(())
}

/// RT-13: the backend says for how long; and so does the filter's own 503.
#[tokio::test]
async fn rt_13_what_a_backend_asks_for_it_gets_and_clients_are_told() -> Result<()> {
    let [a] = backends(["a"])?;
    let extra = json!({"passive": {"cooldown": {"base": "1h", "max": "1h"}}});
    let envoy = serve(&cluster(CLUSTER, &[&a], extra)).await?;
    let mut client = envoy.client();
    let headers = vec![("retry-after", "2".to_owned())];
    let status = 429;
    a.set(Behaviour::Answer { status, headers });
    ensure!(client.get("/").await?.status == 429);
    let cooled = a.requests().first().context("it answered")?.at;
    let started = envoy.wait_for_events("cooldown_started", 1).await?;
    assert_eq!(started[0].field("wait_ms"), "2000");
    a.set(Behaviour::Ok);
    let refused = client.get("/").await?;
    let told = refused.header("retry-after").unwrap_or_default().to_owned();
    println!("{} retry-after {told}: {}", refused.status, refused.text());
    ensure!(refused.status == 503 && refused.text().contains("all_cooling_down"));
    ensure!(["1", "2"].contains(&told.as_str()), "retry-after: {told}");
    wait_for_figure(&envoy, "cooling_backends", "", 1).await?;
    eventually(SOON, "the backend to be asked again", async || {
        let status = client.get("/").await?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    let again = a.requests()[1].at.saturating_duration_since(cooled);
    println!("asked again {again:?} after it asked for 2 s");
    ensure!(again >= Duration::from_secs(2) && again < Duration::from_secs(2) + SLACK);
    wait_for_figure(&envoy, "cooling_backends", "", 0).await?;
    ensure!(figure(&envoy, "cooldowns_total", "retry_after").await? == 1);
    Ok(())
}
