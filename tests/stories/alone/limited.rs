//! Cooldowns as long as documents ask for by default, with answers that are retried: no client sees one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, Load, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, backends, bootstrap, wait_for_figure_at_least};

const WORKERS: u32 = 4;
const PER_SECOND: u32 = 600;
/// Base 1 s, at most 20 s.
const WINDOWS_S: [u64; 5] = [2, 4, 8, 16, 20];
/// All of them, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(120);
/// What comes so soon after a 429 stood in a list that was made before any worker knew of it.
const AT_ONCE: Duration = Duration::from_millis(150);

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
    let load = Load::new(envoy.address(), u64::MAX).connections(8);
    let load = load.per_second(PER_SECOND).start();
    let tries = || {
        let mut tries: Vec<Instant> = a.requests().iter().map(|request| request.at).collect();
        tries.dedup_by(|next, first| next.saturating_duration_since(*first) < AT_ONCE);
        tries
    };
    eventually(DEADLINE, "a try after each cooldown", async || {
        let seen = tries().len();
        ensure!(seen > WINDOWS_S.len(), "{seen}");
        Ok(())
    })
    .await?;
    let tally = load.stop().await?;
    let tries = tries();
    let pauses: Vec<Duration> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    println!(
        "{} requests on {WORKERS} workers, {} failed; {} answers of 429 at {} times, none between; left \
         alone for {pauses:?}",
        tally.sent(),
        tally.failed(),
        a.hits(),
        tries.len()
    );
    tally.ensure_clean()?;
    for (pause, window) in pauses.iter().zip(WINDOWS_S.map(Duration::from_secs)) {
        ensure!(*pause >= window, "{pause:?} for {window:?}");
        let within = window.as_secs() * u64::from(PER_SECOND);
        ensure!(within >= 1000, "{within} requests inside a window");
    }
    let counted = u64::try_from(tries.len())?;
    let cooldowns = wait_for_figure_at_least(&envoy, "cooldowns_total", "status", counted).await?;
    ensure!(cooldowns == counted, "{cooldowns}");
    Ok(())
}
