//! After a window one request at a time tries the backend.

use anyhow::{Result, ensure};
use harness::load::Running;
use harness::registry::cluster;
use harness::{Behaviour, Envoy, Load, Upstream, eventually, throughout};
use serde_json::json;

use crate::scene::{
    CLUSTER, SOON, backends, bootstrap, figure, wait_for_figure, wait_for_figure_at_least,
};

/// So many requests take half a second, and a trial lasts for five.
const WATCHED: u64 = 200;

/// An Envoy with four workers under load, whose first backend has just refused a connection and now
/// answers nothing.
async fn after_a_failure(a: &Upstream, b: &Upstream, half_open: bool) -> Result<(Envoy, Running)> {
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "2s", "halfOpen": half_open},
    });
    let document = cluster(CLUSTER, &[a, b], settings);
    let envoy = Envoy::start(bootstrap(&document)?.concurrency(4)).await?;
    a.set(Behaviour::ResetOnAccept);
    let load = Load::new(envoy.address(), u64::MAX)
        .connections(40)
        .per_second(400)
        .start();
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
    a.set(Behaviour::Hold);
    Ok((envoy, load))
}

#[tokio::test]
async fn gt_3_one_request_of_four_workers_tries_a_backend_after_its_window() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let (envoy, load) = after_a_failure(&a, &b, true).await?;
    wait_for_figure(&envoy, "picks_total", "trial", 1).await?;
    eventually(SOON, "the trial to be there", async || {
        ensure!(a.in_flight() == 1, "{} in flight", a.in_flight());
        Ok(())
    })
    .await?;
    let (before, done) = (b.hits(), load.done());
    throughout(
        SOON,
        "other requests have been answered",
        async || {
            ensure!(
                load.done() >= done + WATCHED,
                "{} so far",
                load.done() - done
            );
            Ok(())
        },
        async || {
            ensure!(a.in_flight() == 1, "{} at a time", a.in_flight());
            Ok(())
        },
    )
    .await?;
    let meanwhile = b.hits() - before;
    a.set(Behaviour::Ok);
    wait_for_figure(&envoy, "events_total", "backoff_closed", 1).await?;
    let (hits, all) = (a.hits(), load.done());
    load.reach(all + 400, SOON).await?;
    load.stop().await?.ensure_clean()?;
    println!(
        "{meanwhile} requests went elsewhere while one tried it; then it had {} of 400",
        a.hits() - hits
    );
    ensure!(a.hits() - hits >= 150, "open to all: {}", a.hits() - hits);
    ensure!(figure(&envoy, "picks_total", "trial").await? == 1);
    Ok(())
}

#[tokio::test]
async fn half_open_can_be_switched_off() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let (envoy, load) = after_a_failure(&a, &b, false).await?;
    eventually(SOON, "requests to be there together", async || {
        ensure!(a.in_flight() >= 8, "{} in flight", a.in_flight());
        Ok(())
    })
    .await?;
    a.set(Behaviour::Ok);
    wait_for_figure_at_least(&envoy, "events_total", "backoff_closed", 1).await?;
    load.stop().await?.ensure_clean()?;
    ensure!(figure(&envoy, "picks_total", "trial").await? == 0);
    Ok(())
}
