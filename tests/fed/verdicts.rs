//! A verdict's way: from a probe that changes its mind to the picks of every worker, and no further
//! than it should (HC-11, 15, 22, LB-16, 20).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Behaviour, Client, Registry, Sidecar, Upstream, eventually};
use serde_json::json;
use tokio::task::JoinSet;

use super::scene::{
    CLUSTER, DEADLINE, Scene, answered_by, backends, check, is_healthy, orders, wait_for_servers,
    wait_for_verdict,
};

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
                ensure!(start.elapsed() < DEADLINE, "not settled in {DEADLINE:?}");
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
    let extra = json!({
        "healthCheck": check(INTERVAL_MS, TIMEOUT_MS, THRESHOLD),
    });
    let scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
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
    let events = |name| super::scene::sidecar_events(&scene.sidecar, name).len();
    let edges = (events("backend_unhealthy"), events("backend_healthy"));
    ensure!(edges == (FLIPS, FLIPS), "edges told: {edges:?}");
    scene.ensure_sane().await
}

#[tokio::test]
async fn hc_11_a_new_sidecar_starts_with_everyone_healthy_and_finds_out() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    a.set_health(Behaviour::Hold);
    let extra = json!({"healthCheck": check(100, 5000, 1)});
    let registry = Registry::new(vec![orders(&[&a, &b], extra)])?;
    let sidecar = Sidecar::start(&registry).await?;
    eventually(DEADLINE, "a probe under way", async || {
        ensure!(!a.probes().is_empty());
        Ok(())
    })
    .await?;
    ensure!(is_healthy(&sidecar, "a").await?);
    a.set_health(Behaviour::status(500));
    let found = wait_for_verdict(&sidecar, "a", false).await?;
    println!("healthy while the first probe is under way, unhealthy {found:?} later");
    Ok(())
}

#[tokio::test]
async fn hc_15_a_removed_health_check_makes_everyone_healthy_at_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 100, 2)});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let edited = Instant::now();
    scene.registry.put(orders(&[&a, &b], json!({})))?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    println!(
        "the unhealthy one serves {:?} after the edit",
        edited.elapsed()
    );
    let told = super::scene::sidecar_events(&scene.sidecar, "backend_healthy");
    ensure!(
        told.len() == 1 && told[0]["reason"] == "check_removed",
        "{told:?}"
    );
    scene.wait_for_the_workers().await?;
    ensure!(scene.figure("available_backends", "").await? == 2);
    scene.ensure_sane().await
}

/// Waits until a backend has been probed this often since now.
async fn wait_for_probes(backend: &Upstream, count: usize) -> Result<()> {
    let before = backend.probes().len();
    eventually(DEADLINE, "probes", async || {
        let seen = backend.probes().len() - before;
        ensure!(seen >= count, "{seen} of {count}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lb_16_weight_zero_takes_no_requests_and_is_still_probed() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 100, 2)});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    let zero = |registry: &mut Registry| {
        registry.edit_backend(CLUSTER, "a", |backend| backend["weight"] = 0.into())
    };
    let took = scene.edit(zero).await?;
    let before = a.hits();
    let order = answered_by(&mut clients, 100).await?;
    wait_for_probes(&a, 3).await?;
    println!(
        "weight 0 everywhere after {took:?}: {} of 100 requests, probes go on",
        a.hits() - before
    );
    ensure!(a.hits() == before && order.iter().all(|backend| backend == "b"));
    // Still probed means: still obeyed when it is the only one left.
    b.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["a"]).await?;
    scene.ensure_sane().await
}
