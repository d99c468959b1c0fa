//! What one worker has seen, all obey.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, DEADLINE, answered_by, backends, bootstrap, ensure_no_trap, figure};

/// RT-19: the first worker runs into a failure, and no other does, from its very next request on.
#[tokio::test]
async fn rt_19_one_workers_failure_gates_all_workers_at_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "500ms", "max": "500ms"},
    });
    let document = cluster(CLUSTER, &[&a, &b], settings);
    let envoy = Envoy::start(bootstrap(&document)?.concurrency(2).exact_balance()?).await?;
    let mut clients = envoy.pinned_clients().await?;
    for client in &mut clients {
        assert_eq!(
            answered_by(client, 2).await?.len(),
            2,
            "both workers know both"
        );
    }
    a.set(Behaviour::ResetOnAccept);
    let mut rounds = Vec::new();
    for round in 0..6 {
        // Turn about: each worker is once the one that finds out.
        clients.reverse();
        let [first, second] = clients.as_mut_slice() else {
            anyhow::bail!("two workers");
        };
        // The connections that Envoy has kept are reset too.
        a.disconnect().await;
        let before = a.accepted().len();
        eventually(DEADLINE, "the first worker to find out", async || {
            answered_by(first, 1).await?;
            ensure!(figure(&envoy, "events_total", "backoff_opened").await? > round);
            Ok(())
        })
        .await?;
        let found = Instant::now();
        let after = a.accepted().len();
        let order = answered_by(second, 40).await?;
        let took = found.elapsed();
        // A busy machine may take longer than the window: then this round proves nothing.
        if took < Duration::from_millis(400) {
            ensure!(order.iter().all(|backend| backend == "b"));
            ensure!(
                a.accepted().len() == after,
                "round {round}: the other worker tried it"
            );
            rounds.push((after - before, took));
        }
    }
    let opened = figure(&envoy, "events_total", "backoff_opened").await?;
    println!(
        "RT-19: rounds (tries by the worker that finds out, 40 GETs on the other): {rounds:?}"
    );
    println!("RT-19: {opened} back-offs in 6 rounds");
    ensure!(rounds.len() >= 3, "the machine is too busy to show it");
    ensure_no_trap(&envoy).await
}
