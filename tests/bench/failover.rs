//! A backend is killed under a steady load: what do its clients notice?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::registry::cluster;
use harness::{Bootstrap, Envoy, Upstream};
use serde_json::{Value, json};

use crate::contender::CLUSTER;
use crate::figures::{percentile, rounded};
use crate::load::Load;
use crate::profile::Profile;

/// Requests per second.
const RATE: f64 = 1000.0;
const CONNECTIONS: usize = 16;
const WORKERS: u32 = 2;
/// The time after the death that counts.
const AFTER: Duration = Duration::from_secs(1);

/// Kills one of three backends.
pub async fn run(profile: &Profile) -> Result<Value> {
    println!("  one of three backends is killed");
    let backends = [1, 2, 3].map(|i| Upstream::new(&format!("{CLUSTER}-{i}")));
    let [one, two, three] = backends;
    let (one, two, three) = (one?, two?, three?);
    let all = [&one, &two, &three];
    let document = cluster(CLUSTER, &all, json!({}));
    let addresses = all.map(Upstream::address);
    let container = json!({"schema": 1, "clusters": [document]});
    let bootstrap = Bootstrap::fixed(&container)?
        .endpoints(CLUSTER, &addresses)?
        .concurrency(WORKERS);
    let envoy = Envoy::start(bootstrap).await?;
    let before = Duration::from_secs(if profile.quick { 1 } else { 4 });
    let address = envoy.address();
    let begun = Instant::now();
    let load = tokio::task::spawn_blocking(move || {
        let mut load = Load::open(address, CONNECTIONS, &[])?;
        load.accept_any_body();
        let timed = load.paced(RATE, before + AFTER + AFTER)?;
        anyhow::Ok((timed, load.errors))
    });
    tokio::time::sleep(before).await;
    let killed = begun.elapsed();
    two.stop().await;
    let (timed, errors) = load.await.context("the load panicked")??;
    let p99 = |from: Duration, to: Duration| {
        let within = timed.iter().filter(|r| r.due >= from && r.due < to);
        let mut millis: Vec<f64> = within.map(|r| r.latency.as_secs_f64() * 1e3).collect();
        percentile(&mut millis, 0.99).map(rounded)
    };
    Ok(json!({
        "requests": timed.len(),
        "errors": errors,
        "p99Ms": p99(killed, killed + AFTER),
        // The first connections of all are not part of it.
        "p99MsBefore": p99(Duration::from_millis(300), killed),
    }))
}
