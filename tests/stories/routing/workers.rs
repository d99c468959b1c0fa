//! What one worker has seen, all obey.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, SOON, answered_by, backends, bootstrap, figure};

/// How long a backend that failed is left alone: longer than 40 GETs take.
const WINDOW: Duration = Duration::from_secs(1);

/// RT-19: the first worker runs into a failure, and no other does, from its very next request on.
#[tokio::test]
async fn rt_19_one_workers_failure_gates_all_workers_at_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let window = format!("{}ms", WINDOW.as_millis());
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": window, "max": window},
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
        eventually(SOON, "the first worker to find out", async || {
            answered_by(first, 1).await?;
            ensure!(figure(&envoy, "events_total", "backoff_opened").await? > round);
            Ok(())
        })
        .await?;
        let tried = a.accepted();
        let end = tried.last().context("nobody has tried it")?.at + WINDOW;
        let order = answered_by(second, 40).await?;
        ensure!(order.iter().all(|backend| backend == "b"));
        // On a busy machine some of them may come after the window.
        let early = a.accepted()[tried.len()..].iter().any(|it| it.at < end);
        ensure!(!early, "round {round}: the other worker tried it");
        rounds.push((tried.len() - before, a.accepted().len() - tried.len()));
    }
    println!("RT-19: tries by the worker that finds out, by the other one later: {rounds:?}");
    let spared = rounds.iter().filter(|(_, later)| *later == 0).count();
    ensure!(spared >= 3, "40 GETs take longer than a window");
    Ok(())
}
