//! A route that asks for retries of its own: the cluster's policy replaces it as a whole, in
//! `static.yaml` as in the clusters that the sidecar sends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::post;
use harness::registry::cluster;
use harness::{Behaviour, Bootstrap, Envoy, Registry, Response, Sidecar, Upstream};
use serde_json::{Value, json};

use crate::scene::{self, CLUSTER, backends};

/// How many requests of each kind are timed.
const TIMED: usize = 200;
/// Far below the route's wait of 300 ms, and below half of Envoy's default of 25 ms.
const MOST: Duration = Duration::from_millis(20);
/// The envoy's own count of a request's attempts, which the route is told to answer with.
const ATTEMPTS: &str = "x-envoy-attempt-count";

/// The route retries five times on every failure, and waits long before each.
fn insistent(mut bootstrap: Bootstrap) -> Result<Bootstrap> {
    let manager = bootstrap.manager_mut()?;
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    host["include_attempt_count_in_response"] = true.into();
    host["routes"][0]["route"]["retry_policy"] = json!({
        "retry_on": "5xx",
        "num_retries": 5,
        "retry_back_off": {"base_interval": "0.3s", "max_interval": "0.3s"},
    });
    Ok(bootstrap)
}

/// Windows are so short that the dead backend is tried again and again.
fn document(backends: &[&Upstream]) -> Value {
    let extra = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "10ms", "max": "10ms"},
    });
    cluster(CLUSTER, backends, extra)
}

#[tokio::test]
async fn a_routes_own_retry_policy_has_no_effect_in_static_yaml() -> Result<()> {
    let [dead, good] = backends(["dead", "good"])?;
    let bootstrap = insistent(scene::bootstrap(&document(&[&dead, &good]))?)?;
    let envoy = Envoy::start(bootstrap).await?;
    ensure_only_the_filter_retries("static.yaml", &envoy, dead, &good).await
}

#[tokio::test]
async fn a_routes_own_retry_policy_has_no_effect_on_what_the_sidecar_sends() -> Result<()> {
    let [dead, good] = backends(["dead", "good"])?;
    let registry = Registry::new(vec![document(&[&dead, &good])])?;
    let sidecar = Sidecar::start_with(&registry, &[]).await?;
    let envoy = Envoy::start(insistent(Bootstrap::ads(sidecar.xds_address())?)?).await?;
    ensure_only_the_filter_retries("the sidecar's CDS", &envoy, dead, &good).await
}

async fn ensure_only_the_filter_retries(
    whose: &str,
    envoy: &Envoy,
    dead: Upstream,
    good: &Upstream,
) -> Result<()> {
    for backend in [&dead, good] {
        backend.set(Behaviour::status(503));
    }
    let mut client = envoy.client();
    let answer = client.send(post("/", "an order")).await?;
    let seen = dead.hits() + good.hits();
    ensure!(
        (answer.status.as_u16(), seen) == (503, 1),
        "{answer:?}, {seen} attempts"
    );

    good.set(Behaviour::Ok);
    dead.stop().await;
    let (mut spared, mut failed_over) = (Vec::new(), Vec::new());
    while spared.len() < TIMED || failed_over.len() < TIMED {
        let start = Instant::now();
        let answer = client.get("/").await?;
        let took = start.elapsed();
        ensure!(answer.backend() == Some("good"), "{answer:?}");
        match attempts(&answer)? {
            1 => spared.push(took),
            2 => failed_over.push(took),
            more => anyhow::bail!("{more} attempts for a list of two"),
        }
    }
    let (plain, retried) = (median(&mut spared), median(&mut failed_over));
    println!(
        "{whose}: {plain:?} without a failure, {retried:?} with a refused connection, \
         medians of {} and {}",
        spared.len(),
        failed_over.len()
    );
    ensure!(retried <= plain + MOST, "{retried:?} after {plain:?}");
    Ok(())
}

fn attempts(answer: &Response) -> Result<u32> {
    let header = answer.headers.get(ATTEMPTS);
    let text = header.context("Envoy did not say how many attempts")?;
    Ok(text.to_str()?.parse()?)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
