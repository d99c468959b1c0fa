//! A backend that fails quickly draws no requests, and costs few.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, Load, Upstream};
use serde_json::json;

use crate::scene::{CLUSTER, bootstrap};

const BACKENDS: usize = 10;
const WORKERS: u32 = 4;
const PER_SECOND: u32 = 600;
/// Until the workers know it.
const LEARNING: Duration = Duration::from_secs(5);
const JUDGED: Duration = Duration::from_secs(15);
/// As much as a good backend takes.
const WORK: Duration = Duration::from_millis(5);

#[tokio::test]
async fn rt_11_a_backend_that_fails_quickly_gets_less_than_its_share() -> Result<()> {
    let backends: Result<Vec<Upstream>> = (0..BACKENDS)
        .map(|i| Upstream::new(&format!("b{i}")))
        .collect();
    let backends = backends?;
    let settings = json!({
        "loadBalancing": {"policy": "PowerOfTwo", "metric": "Latency"},
        "passive": {"failures": ["ServerError"]},
    });
    let all: Vec<&Upstream> = backends.iter().collect();
    let document = cluster(CLUSTER, &all, settings);
    let envoy = Envoy::start(bootstrap(&document)?.concurrency(WORKERS).exact_balance()?).await?;
    backends[1..]
        .iter()
        .for_each(|good| good.set(Behaviour::Slow(WORK)));
    backends[0].set(Behaviour::status(500));
    let load = async |time: Duration| {
        let count = u64::from(PER_SECOND) * time.as_secs();
        let load = Load::new(envoy.address(), count).connections(16);
        load.per_second(PER_SECOND).run().await
    };
    load(LEARNING).await?;
    let start = Instant::now();
    let tally = load(JUDGED).await?;
    let (sent, failed) = (tally.sent() as f64, tally.failed() as f64);
    let rate = sent / start.elapsed().as_secs_f64();
    let share = tally.by("b0") as f64 / sent;
    println!(
        "{sent} requests, {rate:.0} a second: {:.3} % failed, {:.2} % went to the failing one of {BACKENDS}",
        100.0 * failed / sent,
        100.0 * share
    );
    ensure!(rate >= 500.0, "{rate}");
    ensure!(failed / sent < 0.005, "{failed} of {sent}");
    ensure!(share < 1.0 / BACKENDS as f64, "{share}");
    Ok(())
}
