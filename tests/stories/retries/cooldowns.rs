//! A backend that answers that it has too much to do is left alone, by all workers at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, Load, Tally, Upstream, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, SOON, backends, bootstrap, figure, serve};
use crate::scene::{wait_for_figure, wait_for_figure_at_least};

const WORKERS: u32 = 4;
/// What comes so soon after a 429 was picked before any worker knew of it.
const AT_ONCE: Duration = Duration::from_millis(150);
/// Far longer than the pause between two requests of a load, on a busy machine too.
const SLACK: Duration = Duration::from_secs(5);
/// Every cooldown with a base of 200 ms and a maximum of 2 s.
const WINDOWS_MS: [u64; 5] = [400, 800, 1600, 2000, 2000];
/// The same with a base of 1 s and a maximum of 20 s.
const LONG_WINDOWS_S: [u64; 5] = [2, 4, 8, 16, 20];
/// All of those, on a busy machine too.
const LONG_DEADLINE: Duration = Duration::from_secs(120);

/// Sends so many requests a second until the backend has been tried after each of so many cooldowns; says what
/// came of them, and when it was tried.
async fn until_tried(
    envoy: &Envoy,
    backend: &Upstream,
    per_second: u32,
    cooldowns: usize,
    deadline: Duration,
) -> Result<(Tally, Vec<Instant>)> {
    let load = Load::new(envoy.address(), u64::MAX).connections(8);
    let load = load.per_second(per_second).start();
    eventually(deadline, "a try after each cooldown", async || {
        let seen = tries(backend).len();
        ensure!(seen > cooldowns, "{seen}");
        Ok(())
    })
    .await?;
    let tally = load.stop().await?;
    Ok((tally, tries(backend)))
}

/// When a backend was tried: all that comes at once is one time.
fn tries(backend: &Upstream) -> Vec<Instant> {
    let requests = backend.requests();
    let mut tries: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    tries.dedup_by(|next, first| next.saturating_duration_since(*first) < AT_ONCE);
    tries
}

/// How long it was left alone after each try.
fn pauses(tries: &[Instant]) -> Vec<Duration> {
    tries.windows(2).map(|two| two[1] - two[0]).collect()
}

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
    let (tally, tries) = until_tried(&envoy, &a, 400, WINDOWS_MS.len(), SOON).await?;
    let hits = a.hits();
    let started = envoy.events().into_iter();
    let started = started.filter(|event| event.name() == "cooldown_started");
    let waits: Result<Vec<u64>, _> = started.map(|it| it.field("wait_ms").parse()).collect();
    let waits = waits?;
    let pauses = pauses(&tries);
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

/// Cooldowns as long as documents ask for by default, with answers that are retried: no client sees one.
#[tokio::test]
async fn rt_12_19_retried_429s_cost_no_client_anything_and_no_worker_picks_inside_a_window()
-> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "retry": {"on": ["ConnectFailure", 429]},
        "passive": {"cooldown": {"base": "1s", "max": "20s"}},
    });
    let document = cluster(CLUSTER, &[&a, &b, &c], settings);
    let envoy = Envoy::start(bootstrap(&document)?.concurrency(WORKERS).exact_balance()?).await?;
    a.set(Behaviour::status(429));
    let (tally, tries) = until_tried(&envoy, &a, 600, LONG_WINDOWS_S.len(), LONG_DEADLINE).await?;
    let pauses = pauses(&tries);
    println!(
        "{} requests on {WORKERS} workers, {} failed; {} answers of 429 at {} times, none between; left \
         alone for {pauses:?}",
        tally.sent(),
        tally.failed(),
        a.hits(),
        tries.len()
    );
    tally.ensure_clean()?;
    let others = [&b, &c].into_iter().flat_map(Upstream::requests);
    let others: Vec<Instant> = others.map(|request| request.at).collect();
    let mut elsewhere = 0;
    for ((at, pause), window_s) in tries.iter().zip(pauses).zip(LONG_WINDOWS_S) {
        let window = Duration::from_secs(window_s);
        ensure!(pause >= window, "{pause:?} for {window:?}");
        let within = *at..*at + window;
        elsewhere += others.iter().filter(|it| within.contains(*it)).count();
    }
    println!("{elsewhere} requests to the others inside its windows");
    ensure!(elsewhere >= 1000 * LONG_WINDOWS_S.len(), "{elsewhere}");
    let counted = u64::try_from(tries.len())?;
    let cooldowns = wait_for_figure_at_least(&envoy, "cooldowns_total", "status", counted).await?;
    ensure!(cooldowns == counted, "{cooldowns}");
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
