//! The module's role upstream comes and goes with what documents retry: clusters are warm at once,
//! whatever becomes of it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{
    Behaviour, Bootstrap, Client, Envoy, Registry, Sidecar, Upstream, artefacts, eventually,
};
use serde_json::{Value, json};

use crate::scene::{CLUSTER, SOON, backends, figure};

const CLUSTERS: usize = 1000;
/// How long clusters may be warmed after the last of them was delivered.
const WARM_WITHIN: Duration = Duration::from_secs(1);
/// A good deal longer than a thousand clusters take on a busy machine.
const DELIVERED: Duration = Duration::from_secs(60);

/// As many documents as there are clusters; [`CLUSTER`] is one. With the role, answers are retried.
fn documents(backend: &Upstream, role: bool) -> Vec<Value> {
    let name = |nth| match nth {
        0 => CLUSTER.to_owned(),
        nth => format!("c{nth:04}"),
    };
    let document = |nth| cluster(&name(nth), &[backend], retry(role));
    (0..CLUSTERS).map(document).collect()
}

fn retry(role: bool) -> Value {
    match role {
        true => json!({"retry": {"on": ["ConnectFailure", 429]}, "passive": {"cooldown": {}}}),
        false => json!({}),
    }
}

fn write(registry: &Registry, documents: &[Value]) -> Result<()> {
    registry.write_text(&json!({"schema": 1, "clusters": documents}).to_string())
}

/// Waits until so many clusters were added or changed in all, and then until all are warm: says how long
/// the last of it took.
async fn delivered(envoy: &Envoy, what: &str, changed: u64) -> Result<Duration> {
    let mut last = None;
    let took = eventually(DELIVERED, "every cluster to be warm", async || {
        let stats = manager(envoy).await?;
        let seen = changes(&stats);
        ensure!(seen >= changed, "{seen} of {changed}");
        let last = *last.get_or_insert_with(Instant::now);
        let warming = stats["cluster_manager.warming_clusters"];
        ensure!(warming == 0, "{warming} are warming");
        Ok(last.elapsed())
    })
    .await?;
    println!("{what}: warm {took:?} after the last was delivered");
    Ok(took)
}

async fn delivered_in_time(envoy: &Envoy, what: &str, changed: u64) -> Result<()> {
    let took = delivered(envoy, what, changed).await?;
    ensure!(took < WARM_WITHIN, "{what}: {took:?}");
    Ok(())
}

async fn manager(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    envoy.stats("^cluster_manager").await
}

fn changes(stats: &BTreeMap<String, u64>) -> u64 {
    stats["cluster_manager.cluster_added"] + stats["cluster_manager.cluster_modified"]
}

async fn served(client: &mut Client) -> Result<()> {
    let answer = client.get("/").await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    Ok(())
}

#[tokio::test]
async fn the_role_is_switched_on_and_off_for_a_thousand_clusters() -> Result<()> {
    let [a] = backends(["a"])?;
    let registry = Registry::new(documents(&a, false))?;
    let mut sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    let mut client = envoy.client();
    served(&mut client).await?;
    let mut took = Vec::new();
    for (what, role) in [("on", true), ("off", false), ("on again", true)] {
        let before = changes(&manager(&envoy).await?);
        write(&registry, &documents(&a, role))?;
        took.push(delivered(&envoy, what, before + CLUSTERS as u64).await?);
        served(&mut client).await?;
    }
    took.sort();
    ensure!(took[took.len() / 2] < WARM_WITHIN, "{took:?}");
    sidecar.restart().await?;
    let connected = envoy.wait_for_stat("control_plane.connected_state", 1);
    connected.await?;
    delivered_in_time(&envoy, "the sidecar restarted", 0).await?;
    served(&mut client).await?;

    // The last cluster that needs the role goes, and one comes back.
    let mut one = documents(&a, false);
    write(&registry, &one)?;
    let before = changes(&manager(&envoy).await?);
    delivered_in_time(&envoy, "the last one went", before).await?;
    for (nth, what) in ["one came back", "another one"].into_iter().enumerate() {
        let before = changes(&manager(&envoy).await?);
        one[nth] = documents(&a, true)[nth].clone();
        write(&registry, &one)?;
        delivered_in_time(&envoy, what, before + 1).await?;
    }
    // And it does what it is there for: a retried 429 is seen.
    a.set(Behaviour::status(429));
    ensure!(client.get("/").await?.status == 429);
    eventually(SOON, "the answer to count", async || {
        let cooldowns = figure(&envoy, "cooldowns_total", "status").await?;
        ensure!(cooldowns == 1, "{cooldowns}");
        Ok(())
    })
    .await
}

/// A module that cannot be loaded is refused in both roles; one whose configuration it refuses in one. What
/// needs the role is warm all the same, and serves.
#[tokio::test]
async fn a_refused_role_keeps_no_cluster_waiting() -> Result<()> {
    let [a] = backends(["a"])?;
    let folder = tempfile::tempdir()?;
    let module = folder.path().join("module.wasm");
    fs::copy(artefacts::built("faulty.wasm")?, &module)?;
    let settings = [("POINTSMAN_WASM", module.to_str().context("path")?)];
    let mut registry = Registry::new(vec![cluster(CLUSTER, &[&a], retry(false))])?;
    let sidecar = Sidecar::start_with(&registry, &settings).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    let mut client = envoy.client();
    served(&mut client).await?;

    // The stories' module shows the filter half of a configuration with this word in it.
    let mut poisoned = cluster(CLUSTER, &[&a], retry(true));
    poisoned["refusal"] = json!({"body": "x-fault-half"});
    let before = changes(&manager(&envoy).await?);
    registry.put(poisoned)?;
    delivered_in_time(&envoy, "the listener's filter was refused", before + 1).await?;
    envoy
        .wait_for_stat_at_least(&refused("http_filter.pointsman"), 1)
        .await?;
    served(&mut client).await?;
    registry.put(cluster(CLUSTER, &[&a], retry(false)))?;
    delivered_in_time(&envoy, "the role went", before + 2).await?;

    fs::write(&module, b"\0asm and then nonsense")?;
    registry.put(cluster(CLUSTER, &[&a], retry(true)))?;
    delivered_in_time(&envoy, "both were refused", before + 3).await?;
    served(&mut client).await
}

/// The listener's filter is good and stays.
#[tokio::test]
async fn a_role_that_is_refused_alone_keeps_no_cluster_waiting() -> Result<()> {
    let [a] = backends(["a"])?;
    let module = artefacts::built("faulty.wasm")?;
    let settings = [("POINTSMAN_WASM", module.to_str().context("path")?)];
    let document = |role| {
        let mut document = cluster(CLUSTER, &[&a], retry(role));
        // With this word in its own configuration, the stories' module refuses the role's.
        document["refusal"] = json!({"body": "x-fault-upstream"});
        document
    };
    let mut registry = Registry::new(vec![document(false)])?;
    let sidecar = Sidecar::start_with(&registry, &settings).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    let mut client = envoy.client();
    served(&mut client).await?;
    let before = changes(&manager(&envoy).await?);
    registry.put(document(true))?;
    delivered_in_time(&envoy, "the role was refused", before + 1).await?;
    let role = refused("upstream_http_filter.pointsman-upstream");
    envoy.wait_for_stat_at_least(&role, 1).await?;
    // Envoy counts a refusal for every filter; the listener's is there as at first, and as edited.
    let taken = "extension_config_discovery.http_filter.pointsman.config_reload";
    envoy.wait_for_stat(taken, 2).await?;
    served(&mut client).await
}

fn refused(name: &str) -> String {
    format!("extension_config_discovery.{name}.config_fail")
}
