//! The exchange goes on whoever dies: a root, a VM, the sidecar. Measured by how soon the next flip
//! of a probe is obeyed by every worker (HC-23, invariants 3 and 4).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Behaviour, Client, Load, Upstream, eventually};
use serde_json::json;

use crate::fleet::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, check, fault, orders, wait_for_servers,
};

/// A verdict changes with the first probe that says so, at most this long after the backend.
const PROBED: Duration = Duration::from_millis(60 + 200);
/// How long a lease holds that nobody renews, and what it takes to notice.
const LEASE: Duration = Duration::from_millis(1500 + 200);
/// The longest pause between two posts that fail.
const RETRY: Duration = Duration::from_millis(2000 + 200);
/// The way there and back on a busy machine.
const WAY: Duration = Duration::from_millis(300);

fn document(backends: &[&Upstream]) -> serde_json::Value {
    orders(backends, json!({"healthCheck": check(50, 1)}))
}

/// Makes `a` fail its probes, then pass them; says how long either took to be obeyed everywhere.
async fn flip(clients: &mut [Client], a: &Upstream) -> Result<[Duration; 2]> {
    a.set_health(Behaviour::status(500));
    let out = wait_for_servers(clients, &["b"]).await?;
    a.set_health(Behaviour::Ok);
    let back = wait_for_servers(clients, &["a", "b"]).await?;
    Ok([out, back])
}

/// Flips after each of several mishaps.
#[derive(Default)]
struct Flips(Vec<Duration>);

impl Flips {
    async fn one(&mut self, what: &str, clients: &mut [Client], a: &Upstream) -> Result<()> {
        let [out, back] = flip(clients, a).await?;
        println!("{what}: out after {out:?}, back after {back:?}");
        self.0.extend([out, back]);
        Ok(())
    }

    fn ensure_within(&self, limit: Duration) -> Result<()> {
        let slowest = self.0.iter().max().copied().unwrap_or_default();
        println!("slowest {slowest:?}, limit {limit:?}");
        ensure!(slowest <= limit, "{slowest:?}, limit {limit:?}");
        Ok(())
    }
}

#[tokio::test]
async fn verdicts_go_on_when_the_posting_root_is_swapped_away() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(vec![document(&[&a, &b])]).await?;
    let mut clients = scene.clients().await?;
    let mut flips = Flips::default();
    for weight in 101..105_u32 {
        let swaps = scene.whole("configs_total;r=applied").await?;
        scene
            .store
            .edit_backend(CLUSTER, "b", |b| b["weight"] = weight.into())?;
        scene
            .wait_for_whole("configs_total;r=applied", swaps + 1)
            .await?;
        flips.one("swapped", &mut clients, &a).await?;
    }
    flips.ensure_within(PROBED + WAY)?;
    scene.wait_for_the_workers().await?;
    scene.ensure_sane().await
}

/// Lets the VMs of these clients' workers trap, and waits until both serve again.
async fn trap(clients: &mut [Client]) -> Result<Duration> {
    for client in clients.iter_mut() {
        let response = fault(client, "trap").await?;
        ensure!(response.status == 503, "{}", response.status);
    }
    let start = Instant::now();
    eventually(SOON, "the VMs to be back", async || {
        for client in clients.iter_mut() {
            let response = client.get("/").await?;
            ensure!(response.status == 200, "{}", response.status);
        }
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

#[tokio::test]
async fn verdicts_go_on_when_the_posting_vm_dies_and_again() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::faulty(vec![document(&[&a, &b])]).await?;
    scene.envoy.expect_traps();
    let mut clients = scene.clients().await?;
    // With this word in the configuration the main thread's VM dies and stays dead, which leaves
    // the lease to the workers.
    scene
        .store
        .edit_backend(CLUSTER, "b", |b| b["stickyId"] = "x-fault-trap-idle".into())?;
    let done = scene.whole("exchanges_total;r=done").await?;
    scene
        .wait_for_whole("exchanges_total;r=done", done + 4)
        .await?;
    let mut flips = Flips::default();
    flips
        .one("the main thread's VM is dead", &mut clients, &a)
        .await?;
    for _ in 0..2 {
        // One after the other: one of them has the lease.
        trap(&mut clients[..1]).await?;
        flips.one("one worker's VM died", &mut clients, &a).await?;
        trap(&mut clients[1..]).await?;
        flips
            .one("the other worker's VM died", &mut clients, &a)
            .await?;
        let back = trap(&mut clients).await?;
        println!("both VMs serve again {back:?} after they died");
        ensure!(back < Duration::from_millis(100));
        flips.one("both died", &mut clients, &a).await?;
    }
    flips.ensure_within(LEASE + PROBED + WAY)?;
    let reloads = "wasm.pointsman.vm_reload_success";
    scene.envoy.wait_for_stat_at_least(reloads, 8).await?;
    Ok(())
}

#[tokio::test]
async fn killing_and_hanging_the_sidecar_cost_no_request_and_verdicts_go_on() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(vec![document(&[&a, &b])]).await?;
    let mut clients = scene.clients().await?;
    let load = Load::new(scene.envoy.address(), 1_000_000);
    let load = load.connections(4).per_second(200).start();
    let mut flips = Flips::default();
    flips.one("before", &mut clients, &a).await?;
    for _ in 0..2 {
        scene.sidecar.kill();
        let failed = scene.whole("exchanges_total;r=failed").await?;
        scene
            .wait_for_whole("exchanges_total;r=failed", failed + 4)
            .await?;
        scene.sidecar.restart().await?;
        flips.one("killed and restarted", &mut clients, &a).await?;
    }
    for _ in 0..2 {
        let failed = scene.whole("exchanges_total;r=failed").await?;
        scene.sidecar.hang().await?;
        // A post that gets no answer.
        scene
            .wait_for_whole("exchanges_total;r=failed", failed + 1)
            .await?;
        scene.sidecar.resume()?;
        flips.one("hung and resumed", &mut clients, &a).await?;
    }
    let tally = load.stop().await?;
    println!(
        "{} requests meanwhile, {} failed",
        tally.sent(),
        tally.failed()
    );
    tally.ensure_clean()?;
    flips.ensure_within(RETRY + PROBED + WAY)?;
    scene.wait_for_the_workers().await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn hc_23_verdicts_of_a_silent_sidecar_expire_and_come_back_with_it() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let short = [("POINTSMAN_VERDICT_TTL", "2s")];
    let mut scene = Scene::start_with(vec![document(&[&a, &b])], &short).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let hits = a.hits();
    let killed = Instant::now();
    scene.sidecar.kill();
    eventually(SOON, "the unhealthy one to be asked again", async || {
        answered_by(&mut clients, 4).await?;
        ensure!(a.hits() > hits);
        Ok(())
    })
    .await?;
    let held = a.requests()[hits].at.saturating_duration_since(killed);
    println!("TTL 2 s, one exchange a second: the verdict held for {held:?} after the kill");
    ensure!(held > Duration::from_millis(900) && held < Duration::from_millis(2500));
    wait_for_servers(&mut clients, &["a", "b"]).await?;

    scene.sidecar.restart().await?;
    let back = wait_for_servers(&mut clients, &["b"]).await?;
    println!("the verdict is back {back:?} after the sidecar was ready");
    ensure!(back < RETRY + PROBED + WAY);
    scene.envoy.wait_for_events("verdicts_expired", 1).await?;
    let counted = scene.wait_for_whole("verdicts_expired_total", 1).await?;
    ensure!(counted == 1, "counted {counted} times");
    scene.ensure_sane().await
}
