//! An Envoy that wants some of the registry's clusters (DESIGN §3).

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Envoy, Registry, Sidecar, eventually, throughout};
use serde_json::{Value, json};

use super::scene::{CLUSTER, SOON, Scene, backends, bootstrap, orders, revision, wait_for_servers};

/// Names that an Envoy's config dump knows.
async fn knows(envoy: &Envoy, name: &str) -> Result<bool> {
    Ok(envoy.config_dump().await?.to_string().contains(name))
}

#[tokio::test]
async fn an_envoy_that_names_clusters_gets_those_alone_and_reports_what_the_registry_is_at()
-> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let documents = vec![
        orders(&[&a], json!({})),
        cluster("orders-eu", &[&b], json!({})),
        cluster("payments", &[&c], json!({})),
    ];
    let registry = Registry::new(documents)?;
    let sidecar = Sidecar::start(&registry).await?;
    let whole = Envoy::start(bootstrap(&sidecar)?.node("whole")).await?;
    let envoy = Envoy::start(bootstrap(&sidecar)?.node("part").edit(|root| {
        root["node"]["metadata"] = json!({"pointsman": {"clusters": ["orders*"]}});
    }))
    .await?;
    for client in &mut whole.pinned_clients().await? {
        client.get("/").await?;
    }
    let mut scene = Scene {
        envoy,
        sidecar,
        store: registry,
    };
    let mut clients = scene.clients().await?;
    ensure!(knows(&scene.envoy, "orders-eu").await? && knows(&whole, "payments").await?);
    ensure!(
        !knows(&scene.envoy, "payments").await?,
        "it did not ask for it"
    );
    ensure!(scene.envoy.hosts("payments").await?.is_none());

    // A change of what it does not have reaches it as no change, and leaves it on the newest revision.
    let stat = "wasmcustom.pointsman_configs_total;r=applied";
    let applied = scene.envoy.stat(stat).await?;
    scene
        .edit(|registry| registry.edit_backend("payments", "c", |c| c["weight"] = 7.into()))
        .await?;
    let newest = revision(&scene.sidecar).await?;
    let runs_the_newest = async || {
        let status = scene.sidecar.status().await?;
        let proxies = status["proxies"].as_array().cloned().unwrap_or_default();
        let part = proxies.iter().find(|proxy| proxy["node"] == "part");
        let runs = part.map_or(&Value::Null, |part| &part["revisions"]);
        ensure!(*runs == json!([newest]), "{runs}, not {newest}");
        Ok(())
    };
    eventually(
        SOON,
        "the view's revision to be the registry's",
        runs_the_newest,
    )
    .await?;
    let unchanged = async || {
        let now = scene.envoy.stat(stat).await?;
        ensure!(now == applied, "{applied} configurations, then {now}");
        Ok(())
    };
    let exchanges = "wasmcustom.pointsman_exchanges_total;r=done";
    let before = scene.envoy.stat(exchanges).await?;
    let later = async || {
        let now = scene.envoy.stat(exchanges).await?;
        ensure!(now > before + 2, "{now} exchanges after {before}");
        Ok(())
    };
    throughout(SOON, "more exchanges", later, unchanged).await?;

    // And a change of what it has is obeyed.
    let [d] = backends(["d"])?;
    scene
        .edit(|registry| registry.put(orders(&[&d], json!({}))))
        .await?;
    let took = wait_for_servers(&mut clients, &["d"]).await?;
    println!("{CLUSTER}: served by another backend after {took:?}");
    scene.ensure_sane().await
}

#[tokio::test]
async fn an_envoy_that_names_no_globs_is_told_so_and_another_is_served() -> Result<()> {
    let [a] = backends(["a"])?;
    let registry = Registry::new(vec![orders(&[&a], json!({}))])?;
    let sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(bootstrap(&sidecar)?.node("odd").edit(|root| {
        root["node"]["metadata"] = json!({"pointsman": {"clusters": "orders"}});
    }))
    .await?;
    eventually(SOON, "Envoy to say why it is not served", async || {
        ensure!(
            envoy
                .process()
                .log()
                .contains("node.metadata.pointsman.clusters")
        );
        Ok(())
    })
    .await?;
    let served = Envoy::start(bootstrap(&sidecar)?.node("plain")).await?;
    let mut clients = served.pinned_clients().await?;
    wait_for_servers(&mut clients, &["a"]).await?;
    Ok(())
}
