//! A verdict's way to every worker, timed: from a probe that changes its mind to the first request
//! that obeys it (HC-22).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Behaviour, Client};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fleet::scene::{SOON, Scene, backends, check, orders};

const INTERVAL_MS: u64 = 100;
const TIMEOUT_MS: u64 = 100;
const THRESHOLD: u64 = 2;
const FLIPS: usize = 20;

/// 1.2 × interval × threshold + timeout + 200 ms.
fn limit() -> Duration {
    Duration::from_millis(12 * INTERVAL_MS * THRESHOLD / 10 + TIMEOUT_MS + 200)
}

/// Sends GETs on every client at once until each has had `rounds` answers in a row that are
/// `wanted`; says when the first answer of the last such row came, the latest of all clients.
async fn settle(
    clients: &mut Vec<Client>,
    rounds: usize,
    wanted: impl Fn(&str) -> bool + Copy + Send + 'static,
) -> Result<Instant> {
    let mut running = JoinSet::new();
    for mut client in clients.drain(..) {
        running.spawn(async move {
            let mut row: Vec<Instant> = Vec::new();
            let start = Instant::now();
            while row.len() < rounds {
                ensure!(start.elapsed() < SOON, "not settled in {SOON:?}");
                let response = client.get("/").await?;
                ensure!(response.status == 200, "{}", response.status);
                let answered = Instant::now();
                match wanted(response.backend().context("no backend")?) {
                    true => row.push(answered),
                    false => row.clear(),
                }
            }
            Ok((client, row[0]))
        });
    }
    let mut latest = None;
    while let Some(settled) = running.join_next().await {
        let (client, at) = settled??;
        clients.push(client);
        latest = latest.max(Some(at));
    }
    latest.context("no clients")
}

#[tokio::test]
async fn hc_22_twenty_flips_reach_every_worker_in_time() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut check = check(INTERVAL_MS, THRESHOLD);
    check["timeout"] = format!("{TIMEOUT_MS}ms").into();
    let document = orders(&[&a, &b], json!({"healthCheck": check}));
    let scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for _ in 0..FLIPS {
        a.forget();
        let flipped = Instant::now();
        a.set_health(Behaviour::status(500));
        // Round robin alternates: five answers of the other one are no accident.
        settle(&mut clients, 10, |backend| backend == "b").await?;
        let last = a.requests().last().map_or(flipped, |last| last.at);
        out.push(last.saturating_duration_since(flipped));
        let flipped = Instant::now();
        a.set_health(Behaviour::Ok);
        let first = settle(&mut clients, 1, |backend| backend == "a").await?;
        back.push(first.saturating_duration_since(flipped));
    }
    let millis = |times: &[Duration]| times.iter().map(Duration::as_millis).collect::<Vec<_>>();
    println!("limit {} ms, {FLIPS} flips, 2 workers", limit().as_millis());
    println!("out of every worker's picks after ms: {:?}", millis(&out));
    println!("in every worker's picks after ms:     {:?}", millis(&back));
    ensure!(out.iter().chain(&back).all(|time| *time <= limit()));
    for edge in ["backend_unhealthy", "backend_healthy"] {
        scene.sidecar.wait_for_events(edge, FLIPS).await?;
    }
    scene.ensure_sane().await
}
