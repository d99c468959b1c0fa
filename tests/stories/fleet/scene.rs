//! What stories with a sidecar have in common: documents, verdicts, who serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::Client;
use harness::registry::cluster;
use harness::{Sidecar, Upstream, eventually};
use serde_json::{Value, json};

pub use crate::scene::{CLUSTER, SOON, backends};
pub use harness::scene::{Scene, WORKERS, bootstrap, revision, wait_for_the_workers};

/// A health check of `/healthz` that needs `threshold` results to change its mind; no answer is too
/// late for it, as backends answer when the story's own process has the time.
pub fn check(interval_ms: u64, threshold: u64) -> Value {
    json!({
        "http": {"path": "/healthz"},
        "interval": format!("{interval_ms}ms"),
        "timeout": "20s",
        "healthyThreshold": threshold,
        "unhealthyThreshold": threshold,
    })
}

/// The document of [`CLUSTER`]: round robin, unless `extra` says otherwise, so that who serves is
/// no accident. (The default policy weighs loads, and what a worker knows of the others' is a little
/// old.)
pub fn orders(backends: &[&Upstream], extra: Value) -> Value {
    let mut document = cluster(CLUSTER, backends, extra);
    if document["loadBalancing"].is_null() {
        document["loadBalancing"] = json!({"policy": "RoundRobin"});
    }
    document
}

/// What the sidecar thinks of a backend of [`CLUSTER`].
pub async fn is_healthy(sidecar: &Sidecar, id: &str) -> Result<bool> {
    let status = sidecar.status().await?;
    let backends = status["clusters"]
        .as_array()
        .and_then(|clusters| clusters.iter().find(|cluster| cluster["name"] == CLUSTER))
        .and_then(|cluster| cluster["backends"].as_array())
        .context("the cluster is not in /status")?;
    let backend = backends.iter().find(|backend| backend["id"] == id);
    let backend = backend.with_context(|| format!("no backend {id} in /status"))?;
    backend["healthy"].as_bool().context("no verdict")
}

/// Waits until the sidecar thinks so of a backend of [`CLUSTER`]; says how long that took.
pub async fn wait_for_verdict(sidecar: &Sidecar, id: &str, healthy: bool) -> Result<Duration> {
    let start = Instant::now();
    eventually(SOON, &format!("{id} to be healthy={healthy}"), async || {
        let now = is_healthy(sidecar, id).await?;
        ensure!(now == healthy, "healthy={now}");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Sends one GET per client, in turn, until this many were sent in all; the backends that answered.
/// Every answer must be a backend's 200.
pub async fn answered_by(clients: &mut [Client], count: usize) -> Result<Vec<String>> {
    let mut order = Vec::with_capacity(count);
    let workers = clients.len();
    for nth in 0..count {
        let response = clients[nth % workers].get("/").await?;
        let backend = response.backend().filter(|_| response.status == 200);
        let why = || format!("GET {nth}: {} {}", response.status, response.text());
        order.push(backend.with_context(why)?.to_owned());
    }
    Ok(order)
}

/// Waits until the clients' next requests are answered by exactly these backends, 6 of each client
/// in a row; says how long that took.
pub async fn wait_for_servers(clients: &mut [Client], wanted: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    let count = 6 * clients.len();
    let what = format!("exactly {wanted:?} to serve");
    eventually(SOON, &what, async || {
        let mut order = answered_by(clients, count).await?;
        order.sort();
        order.dedup();
        ensure!(order == wanted, "{order:?}");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Sends a GET that asks the stories' module for a fault.
pub async fn fault(client: &mut Client, fault: &str) -> Result<harness::Response> {
    client.fault(fault).await
}
