//! A verdict goes no further than it should (HC-11, 15, LB-16, 20).

use std::time::Instant;

use anyhow::{Result, ensure};
use harness::{Behaviour, Client, Load, Registry, Sidecar, Upstream, eventually};
use serde_json::json;

use crate::fleet::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, check, is_healthy, orders, wait_for_servers,
    wait_for_verdict,
};
use crate::scene::wait_for_probes;

#[tokio::test]
async fn hc_11_a_new_sidecar_starts_with_everyone_healthy_and_finds_out() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    a.set_health(Behaviour::Hold);
    let extra = json!({"healthCheck": check(100, 1)});
    let registry = Registry::new(vec![orders(&[&a, &b], extra)])?;
    let sidecar = Sidecar::start(&registry).await?;
    eventually(SOON, "a probe under way", async || {
        ensure!(!a.probes().is_empty());
        Ok(())
    })
    .await?;
    ensure!(is_healthy(&sidecar, "a").await?);
    a.set_health(Behaviour::status(500));
    let found = wait_for_verdict(&sidecar, "a", false).await?;
    println!("healthy while the first probe is under way, unhealthy {found:?} later");
    Ok(())
}

#[tokio::test]
async fn hc_15_a_removed_health_check_makes_everyone_healthy_at_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 2)});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let edited = Instant::now();
    scene.store.put(orders(&[&a, &b], json!({})))?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    println!(
        "the unhealthy one serves {:?} after the edit",
        edited.elapsed()
    );
    let told = scene.sidecar.wait_for_events("backend_healthy", 1).await?;
    ensure!(told[0]["reason"] == "check_removed", "{told:?}");
    scene.wait_for_the_workers().await?;
    scene.wait_for_figure("available_backends", "", 2).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn lb_16_weight_zero_takes_no_requests_and_is_still_probed() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 2)});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    let zero = |registry: &mut Registry| {
        registry.edit_backend(CLUSTER, "a", |backend| backend["weight"] = 0.into())
    };
    let took = scene.edit(zero).await?;
    let before = a.hits();
    let order = answered_by(&mut clients, 100).await?;
    wait_for_probes(&a, a.probes().len() + 3).await?;
    println!(
        "weight 0 everywhere after {took:?}: {} of 100 requests, probes go on",
        a.hits() - before
    );
    ensure!(a.hits() == before && order.iter().all(|backend| backend == "b"));
    // Still probed means: still obeyed when it is the only one left.
    b.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["a"]).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn a_renamed_backend_starts_from_the_verdict_of_its_address() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 3)});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let before = a.hits();
    let load = Load::new(scene.envoy.address(), u64::MAX);
    let load = load.connections(4).per_second(500).start();
    for id in ["x", "y", "z"] {
        let rename = |registry: &mut Registry| {
            registry.edit(CLUSTER, |document| {
                document["backends"][0]["id"] = id.into()
            })
        };
        scene.edit(rename).await?;
        wait_for_probes(&a, 3).await?;
        ensure!(!is_healthy(&scene.sidecar, id).await?);
    }
    let tally = load.stop().await?;
    println!(
        "{} requests over three names, {} at it",
        tally.sent(),
        a.hits() - before
    );
    tally.ensure_clean()?;
    ensure!(a.hits() == before, "{} hits", a.hits() - before);
    scene.ensure_sane().await
}

/// The scene of the two stories below: `a` is unhealthy, and it takes a second to find that out.
async fn with_a_sick(backends: &[&Upstream; 2]) -> Result<(Scene, Vec<Client>)> {
    let extra = json!({"healthCheck": check(200, 5)});
    let scene = Scene::start(vec![orders(backends, extra)]).await?;
    let mut clients = scene.clients().await?;
    backends[0].set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    backends[0].forget();
    Ok((scene, clients))
}

/// Sends requests until the sidecar must know by itself; none of them may be served by `a`.
async fn ensure_never_served(scene: &Scene, clients: &mut [Client], a: &Upstream) -> Result<()> {
    let (mut sent, probes) = (0, a.probes().len() + 7);
    while a.probes().len() < probes {
        sent += answered_by(clients, 20).await?.len();
    }
    println!("{sent} requests, {} at the sick backend", a.hits());
    ensure!(a.hits() == 0, "{} hits", a.hits());
    ensure!(!is_healthy(&scene.sidecar, "a").await?);
    scene.sidecar.event("verdicts_resumed", 1).await?;
    // Probes alone decide from now on.
    a.set_health(Behaviour::Ok);
    wait_for_servers(clients, &["a", "b"]).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn a_restarted_sidecar_starts_from_the_verdicts_that_proxies_hand_back() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let (mut scene, mut clients) = with_a_sick(&[&a, &b]).await?;
    scene.sidecar.restart().await?;
    ensure_never_served(&scene, &mut clients, &a).await
}

#[tokio::test]
async fn a_cluster_that_is_deleted_and_added_again_starts_from_the_verdicts_it_had() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let (mut scene, mut clients) = with_a_sick(&[&a, &b]).await?;
    let document = scene.store.container()["clusters"][0].take();
    scene.edit(|registry| registry.remove(CLUSTER)).await?;
    scene.edit(|registry| registry.put(document)).await?;
    ensure_never_served(&scene, &mut clients, &a).await
}
