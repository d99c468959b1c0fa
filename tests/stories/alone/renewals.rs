//! A sidecar that renders every cluster in another way, as one of another release may (DESIGN §3).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Load, Upstream, eventually};
use serde_json::{Value, json};

use crate::fleet::scene::{Scene, backends, orders};

const CLUSTERS: usize = 1000;
/// Clusters that may change in any second; two turns more where Envoy was late.
const PER_SECOND: u64 = 50;
const SLACK: u64 = 20;
const RENEWED: Duration = Duration::from_secs(60);
const MODIFIED: &str = "cluster_manager.cluster_modified";

fn documents(a: &Upstream, b: &Upstream, connect: &str) -> Vec<Value> {
    let timeouts = json!({"timeouts": {"connect": connect}});
    let others = (1..CLUSTERS).map(|it| cluster(&format!("other-{it}"), &[a], timeouts.clone()));
    std::iter::once(orders(&[a, b], timeouts.clone()))
        .chain(others)
        .collect()
}

/// To an Envoy that comes back to it, a sidecar that renders clusters anew looks like one whose documents
/// were edited while it was down.
#[tokio::test]
async fn a_thousand_clusters_are_rendered_anew_under_load_50_a_second_and_no_request_fails()
-> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(documents(&a, &b, "1s")).await?;
    scene.clients().await?;
    let load = Load::new(scene.envoy.address(), u64::MAX)
        .connections(4)
        .per_second(200)
        .start();
    let before = scene.envoy.stat(MODIFIED).await?;
    scene.sidecar.kill();
    let documents = json!({"schema": 1, "clusters": documents(&a, &b, "2s")});
    scene.store.write_text(&documents.to_string())?;
    scene.sidecar.restart().await?;
    let begun = Instant::now();
    let mut looks: Vec<(Instant, u64)> = Vec::new();
    eventually(RENEWED, "every cluster to be renewed", async || {
        let seen = scene.envoy.stat(MODIFIED).await? - before;
        looks.push((Instant::now(), seen));
        ensure!(seen >= CLUSTERS as u64, "{seen} of {CLUSTERS}");
        Ok(())
    })
    .await?;
    let took = begun.elapsed();
    let busiest = looks.iter().map(|(from, seen)| {
        let within = |(at, _): &&(Instant, u64)| *at - *from <= Duration::from_secs(1);
        let last = looks
            .iter()
            .skip_while(|(at, _)| at < from)
            .take_while(within)
            .last();
        last.map_or(0, |(_, later)| later - seen)
    });
    let busiest = busiest.max().unwrap_or(0);
    let tally = load.stop().await?;
    println!(
        "{CLUSTERS} clusters in {took:?}, {busiest} in the busiest second; {} requests, {} failed",
        tally.sent(),
        tally.failed()
    );
    ensure!(busiest <= PER_SECOND + SLACK, "{busiest} in one second");
    tally.ensure_clean()?;
    scene
        .envoy
        .wait_for_stat("cluster_manager.warming_clusters", 0)
        .await?;
    scene.wait_for_the_workers().await?;
    scene.ensure_sane().await
}
