//! How fast a limited backend is asked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Envoy, Load, eventually};
use serde_json::json;

use crate::scene::{CLUSTER, SOON, backends, bootstrap, figure};

const WORKERS: u32 = 4;
const PERIOD: Duration = Duration::from_secs(12);

/// RL-1: four workers hammer one backend with 5 requests per second and a burst of 10.
#[tokio::test]
async fn rl_1_ten_at_once_then_five_per_second() -> Result<()> {
    let [a] = backends(["a"])?;
    let document = cluster(
        CLUSTER,
        &[&a],
        json!({"rateLimit": {"perSecond": 5, "burst": 10}}),
    );
    let envoy = bootstrap(&document)?.concurrency(WORKERS).exact_balance()?;
    let envoy = Envoy::start(envoy).await?;
    let load = Load::new(envoy.address(), u64::MAX).connections(8).start();
    eventually(SOON + PERIOD, "the load to have lasted", async || {
        let requests = a.requests();
        let first = requests.first().map(|request| request.at);
        let age = first.map(|at| at.elapsed()).unwrap_or_default();
        ensure!(age > PERIOD + Duration::from_secs(1), "{age:?}");
        Ok(())
    })
    .await?;
    let tally = load.stop().await?;
    let times: Vec<Instant> = a.requests().iter().map(|request| request.at).collect();
    let first = times[0];
    let within = |from: Duration, to: Duration| {
        let ages = times.iter().map(|at| at.saturating_duration_since(first));
        ages.filter(|age| (from..to).contains(age)).count()
    };
    let at_once = within(Duration::ZERO, Duration::from_millis(150));
    let offset = Duration::from_millis(300);
    let per_second = within(offset, offset + PERIOD) as f64 / PERIOD.as_secs_f64();
    let unpaid = figure(&envoy, "picks_total", "unpaid").await?;
    println!(
        "{} requests on {WORKERS} workers: {at_once} at once, then {per_second:.2} per second over \
         {PERIOD:?}; {:?}, {unpaid} without a token",
        tally.sent(),
        tally.statuses
    );
    ensure!(at_once == 10, "{at_once}");
    ensure!((per_second - 5.0).abs() <= 0.2, "{per_second}");
    ensure!(unpaid == 0, "{unpaid}");
    Ok(())
}
