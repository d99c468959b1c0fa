//! What the attempts of a cluster can save is saved: many requests, a backend that dies and returns.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Envoy, Load, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, SOON, backends, bootstrap, cluster_stat, wait_for_figure_at_least};

/// Invariant 4: 10,000 GETs and more on two workers, one of three backends killed and brought back: no
/// client sees an error.
#[tokio::test]
async fn ten_thousand_gets_survive_the_death_of_a_backend() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    // However long the machine takes for the requests meanwhile, it is tried again soon.
    let backoff = json!({"backoff": {"base": "1s", "max": "3s"}});
    let document = cluster(CLUSTER, &[&a, &b, &c], backoff);
    let envoy = Envoy::start(bootstrap(&document)?.concurrency(2).exact_balance()?).await?;
    let load = Load::new(envoy.address(), u64::MAX)
        .connections(8)
        .per_second(1000)
        .start();
    load.reach(2000, SOON).await?;
    let before = b.hits();
    b.stop().await;
    load.reach(4000, SOON).await?;
    let during = b.hits() - before;
    b.start()?;
    eventually(SOON, "the backend to serve again", async || {
        ensure!(b.hits() > before + during, "no request yet");
        Ok(())
    })
    .await?;
    let back_at = load.done();
    load.reach(10_000, SOON).await?;
    let tally = load.stop().await?;
    let failed = "failed_attempts_total";
    let failed = wait_for_figure_at_least(&envoy, failed, "unknown", 1).await?;
    let retries = envoy.stat(&cluster_stat("upstream_rq_retry")).await?;
    println!(
        "{} GETs, 2 workers: {} client errors; {:?}; p50 {:?}, p99 {:?}, longest {:?}",
        tally.sent(),
        tally.failed(),
        tally.backends,
        tally.percentile(50),
        tally.percentile(99),
        tally.percentile(100),
    );
    println!(
        "b was killed after 2000 and started after 4000, served again before {back_at}; \
         {failed} attempts failed, {retries} retries"
    );
    tally.ensure_clean()?;
    assert_eq!(tally.statuses, [(200, tally.sent())].into());
    ensure!(
        tally.percentile(99) < Duration::from_secs(1),
        "requests waited for the dead backend"
    );
    Ok(())
}
