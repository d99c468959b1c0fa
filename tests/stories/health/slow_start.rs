//! A backend that is back gets its share bit by bit (`slowStart`).

use std::time::Instant;

use anyhow::{Result, ensure};
use harness::{Behaviour, Load, eventually};
use serde_json::json;

use crate::fleet::scene::{SOON, Scene, backends, check, orders, wait_for_servers};

/// Seconds.
const WINDOW: f64 = 10.0;
/// What one look at the shares counts.
const REQUESTS: u64 = 500;

/// The share of one of two that has been back for so long, percent.
fn due(seconds: f64) -> f64 {
    let weight = (seconds / WINDOW).clamp(0.1, 1.0);
    100.0 * weight / (1.0 + weight)
}

#[tokio::test]
async fn a_backend_that_is_healthy_again_grows_into_its_share() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({
        "healthCheck": check(100, 2),
        "loadBalancing": {"policy": "RoundRobin", "slowStart": {"window": "10s"}},
    });
    let scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    // Both were there from the start: nobody grows.
    let load = Load::new(scene.envoy.address(), u64::MAX)
        .connections(16)
        .per_second(500)
        .start();
    load.reach(REQUESTS, SOON).await?;
    let share = 100.0 * load.by("a") as f64 / load.done() as f64;
    ensure!((share - 50.0).abs() < 5.0, "{share} % at first");
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let before = a.hits();
    a.set_health(Behaviour::Ok);
    eventually(SOON, "it to serve again", async || {
        ensure!(a.hits() > before);
        Ok(())
    })
    .await?;
    let back = Instant::now();
    let mut seen = Vec::new();
    while back.elapsed().as_secs_f64() < WINDOW + 2.0 {
        let (start, done, by) = (back.elapsed(), load.done(), load.by("a"));
        load.reach(done + REQUESTS, SOON).await?;
        let share = 100.0 * (load.by("a") - by) as f64 / (load.done() - done) as f64;
        let middle = (start + back.elapsed()).as_secs_f64() / 2.0;
        seen.push((middle, share, due(middle)));
    }
    load.stop().await?.ensure_clean()?;
    for (middle, share, due) in &seen {
        println!("{middle:4.1} s: {share:4.1} % of {due:4.1} %");
    }
    ensure!(seen.iter().all(|(_, share, due)| (share - due).abs() < 5.0));
    ensure!(seen.len() >= 4, "too few looks: {seen:?}");
    scene.ensure_sane().await
}
