//! What cannot be served is refused with its reason, and what was serving serves on (HC-2, AD-3,
//! AD-20; invariant 1).

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::registry::{backend, cluster};
use harness::sidecar::operate;
use harness::{Behaviour, Bootstrap, Envoy, Registry, Sidecar, artefacts, eventually};
use pointsman_filter::config::SCHEMA;
use serde_json::{Value, json};

use super::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, bootstrap, fault, orders, revision,
    wait_for_servers,
};

/// Waits until `/status` says something of the registry: `pointer` leads there.
async fn wait_for_status(sidecar: &Sidecar, pointer: &str, wanted: &str) -> Result<String> {
    let what = format!("{pointer} in /status to say {wanted:?}");
    eventually(SOON, &what, async || {
        let status = sidecar.status().await?;
        let said = status.pointer(pointer).and_then(Value::as_str);
        let said = said.unwrap_or_default().to_owned();
        ensure!(said.contains(wanted), "{said:?}");
        Ok(said)
    })
    .await
}

#[tokio::test]
async fn hc_2_ad_3_a_bad_cluster_keeps_its_last_good_version_and_the_others_are_updated()
-> Result<()> {
    let [a, b, other, newer] = backends(["a", "b", "other", "newer"])?;
    let documents = vec![
        orders(&[&a, &b], json!({})),
        cluster("other", &[&other], json!({})),
    ];
    let registry = Registry::new(documents)?;
    let sidecar = Sidecar::start(&registry).await?;
    let bootstrap = bootstrap(&sidecar)?.route("/other", "other")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut scene = Scene {
        envoy,
        sidecar,
        store: registry,
    };
    let mut clients = scene.clients().await?;
    let unset = json!({"http": {"path": "healthz"}, "interval": "0s"});
    let edits: [(&str, Value, &str); 4] = [
        (
            "backends",
            json!([{"address": "localhost:80"}]),
            "clusters.orders.backends[0].address: ",
        ),
        (
            "healthCheck",
            unset,
            "clusters.orders.healthCheck.http.path: ",
        ),
        (
            "loadBalancing",
            json!({"policy": "Fastest"}),
            "clusters.orders.loadBalancing.policy: ",
        ),
        ("colour", json!("red"), "clusters.orders.colour: "),
    ];
    for (nth, (field, value, why)) in edits.into_iter().enumerate() {
        let port = 2000 + nth;
        let take = [&other, &newer][nth % 2];
        scene
            .edit(|registry| {
                let mut bad = orders(&[&b], json!({}));
                bad[field] = value;
                registry.put(bad)?;
                let weight = json!({"backoff": {"base": format!("{port}ms")}});
                registry.put(cluster("other", &[take], weight))
            })
            .await?;
        let said = wait_for_status(&scene.sidecar, "/registry/rejected/0/error", why).await?;
        println!("{said}");
        ensure!(
            scene.sidecar.status().await?["registry"]["rejected"][0]["place"] == "clusters.orders"
        );
        let before = take.hits();
        ensure!(clients[nth % 2].get("/other").await?.backend() == Some(take.id()));
        ensure!(take.hits() == before + 1);
        wait_for_servers(&mut clients, &["a", "b"]).await?;
    }
    scene
        .edit(|registry| registry.put(orders(&[&b], json!({}))))
        .await?;
    wait_for_servers(&mut clients, &["b"]).await?;
    let rejected = scene.sidecar.status().await?["registry"]["rejected"].take();
    ensure!(rejected == json!([]), "{rejected}");
    scene.ensure_sane().await
}

#[tokio::test]
async fn ad_3_8_a_file_that_is_no_registry_or_gone_changes_nothing_but_the_status() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    let served = revision(&scene.sidecar).await?;
    let good = fs::read_to_string(scene.store.file())?;
    let half = &good[..good.len() / 2];
    let newer = format!("{{schema: {}, clusters: []}}", SCHEMA + 1);
    for (what, text, wanted) in [
        ("cut off", half, "must be YAML"),
        ("empty", "", "must be an object"),
        (
            "a newer schema",
            &newer,
            "schema: is required and must be 1 to",
        ),
    ] {
        scene.store.write_text(text)?;
        let said = wait_for_status(&scene.sidecar, "/registry/error", wanted).await?;
        println!("{what}: {}", said.lines().next().unwrap_or_default());
        ensure!(revision(&scene.sidecar).await? == served);
        answered_by(&mut clients, 10).await?;
    }
    fs::remove_file(scene.store.file())?;
    let said = wait_for_status(&scene.sidecar, "/registry/error", "cannot be read").await?;
    println!("deleted: {said}");
    answered_by(&mut clients, 10).await?;
    ensure!(scene.sidecar.get("/readyz").await?.status == 200);
    scene
        .store
        .write_text(&good.replace(&a.address().to_string(), &b.address().to_string()))?;
    let back = wait_for_servers(&mut clients, &["b"]).await?;
    println!("good again: served {back:?} later");
    ensure!(scene.sidecar.status().await?["registry"]["error"].is_null());
    scene.ensure_sane().await
}

/// The filter's entry of the only proxy's only stream in `/status`.
async fn filter_progress(sidecar: &Sidecar) -> Result<Value> {
    let status = sidecar.status().await?;
    let types = &status["proxies"][0]["streams"][0]["types"];
    let types = types.as_object().context("no stream")?;
    let filters = types.iter().find(|(kind, _)| *kind == "filters");
    Ok(filters.with_context(|| format!("{types:?}"))?.1.clone())
}

/// Waits until the filter's last configuration is not refused, or not any more.
async fn wait_for_ack(sidecar: &Sidecar) -> Result<()> {
    eventually(SOON, "no NACK in /status", async || {
        let filters = filter_progress(sidecar).await?;
        ensure!(filters["nacked"].is_null(), "{filters}");
        Ok(())
    })
    .await
}

/// Waits until the filter's last configuration is refused, and says how.
async fn wait_for_nack(sidecar: &Sidecar) -> Result<Value> {
    eventually(SOON, "the NACK in /status", async || {
        let filters = filter_progress(sidecar).await?;
        ensure!(!filters["nacked"].is_null(), "{filters}");
        Ok(filters["nacked"].clone())
    })
    .await
}

/// What the only proxy says it refused last.
async fn refused(sidecar: &Sidecar) -> Result<Value> {
    let status = sidecar.status().await?;
    let proxy = status.pointer("/proxies/0").context("no proxy")?;
    Ok(proxy["refused"].clone())
}

#[tokio::test]
async fn ad_20_a_module_that_cannot_be_loaded_is_refused_and_the_old_one_serves() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    // As Envoy sees it: a file that an upgrade replaces.
    let folder = tempfile::tempdir()?;
    let module = folder.path().join("module.wasm");
    fs::copy(artefacts::module()?, &module)?;
    let settings = [("POINTSMAN_WASM", module.to_str().context("path")?)];
    let mut scene = Scene::start_with(vec![orders(&[&a], json!({}))], &settings).await?;
    let mut clients = scene.clients().await?;
    wait_for_ack(&scene.sidecar).await?;

    fs::write(&module, b"\0asm and then nonsense")?;
    let wider = orders(&[&a, &b], json!({}));
    scene.store.put(wider)?;
    let nacked = wait_for_nack(&scene.sidecar).await?;
    println!("nacked: {nacked}");
    ensure!(
        nacked["error"]
            .as_str()
            .is_some_and(|error| error.contains("pointsman"))
    );
    let order = answered_by(&mut clients, 40).await?;
    ensure!(
        order.iter().all(|backend| backend == "a"),
        "the old one serves: {order:?}"
    );
    ensure!(
        scene.whole("configs_total;r=refused").await? == 0,
        "it was never asked"
    );

    fs::copy(artefacts::module()?, &module)?;
    scene
        .edit(|registry| {
            registry.edit_backend(CLUSTER, "b", |backend| backend["weight"] = 99.into())
        })
        .await?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    wait_for_ack(&scene.sidecar).await?;
    scene.ensure_sane().await
}

/// One role of the module is refused and the other serves: requests pass as if it stood there not, what it
/// is for is missing, and everybody says so. A good one is taken up.
#[tokio::test]
async fn ad_20_the_role_upstream_that_is_refused_alone_is_named_and_taken_up_once_it_is_good()
-> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let folder = tempfile::tempdir()?;
    let module = folder.path().join("module.wasm");
    fs::copy(artefacts::built("faulty.wasm")?, &module)?;
    let inline = format!("inline:{}", module.display());
    let settings = [("POINTSMAN_WASM", inline.as_str())];
    // With this word in its own configuration, the stories' module refuses the role's.
    let word = json!({"body": "x-fault-upstream"});
    let without = orders(&[&a, &b], json!({"refusal": word}));
    let mut scene = Scene::start_with(vec![without], &settings).await?;
    let mut clients = scene.clients().await?;
    let cooldown = json!({"base": "1h", "max": "1h"});
    let retry = json!({"on": ["ConnectFailure", 429]});
    let with = json!({"refusal": word, "retry": retry, "passive": {"cooldown": cooldown}});
    let with = orders(&[&a, &b], with);
    scene.edit(|registry| registry.put(with)).await?;

    let nacked = wait_for_nack(&scene.sidecar).await?;
    println!("nacked: {nacked}");
    ensure!(nacked["resource"] == "pointsman-upstream", "{nacked}");
    let error = nacked["error"].as_str().unwrap_or_default();
    ensure!(error.contains("pointsman-upstream"), "{nacked}");
    let told = scene.sidecar.events("nacked");
    let of_the_role = |event: &Value| event["resource"] == "pointsman-upstream";
    ensure!(!told.is_empty() && told.iter().all(of_the_role), "{told:?}");
    let metrics = scene.sidecar.metrics().await?;
    let series = "pointsman_xds_refusing_streams{type=\"filters\"} 1";
    ensure!(metrics.contains(series), "{metrics}");
    let address = scene.envoy.admin_address().to_string();
    let arguments = ["doctor", "--envoy", &address];
    let ended = operate(&scene.sidecar, &arguments, "").await?;
    let line = "refuses pointsman-upstream: ";
    ensure!(ended.code == 1 && ended.out.contains(line), "{}", ended.out);

    a.set(Behaviour::status(429));
    let order = answered_by(&mut clients, 20).await?;
    ensure!(order.iter().all(|backend| backend == "b"), "{order:?}");
    ensure!(a.hits() >= 10, "nobody learns of its answers: {}", a.hits());

    fs::copy(artefacts::module()?, &module)?;
    // What reads as before Envoy would accept and not try: a mended module is another resource.
    scene.sidecar.restart().await?;
    wait_for_ack(&scene.sidecar).await?;
    eventually(SOON, "a retried answer to be learnt of", async || {
        answered_by(&mut clients, 2).await?;
        ensure!(scene.figure("cooldowns_total", "status").await? == 1);
        Ok(())
    })
    .await?;
    let hits = a.hits();
    answered_by(&mut clients, 20).await?;
    ensure!(a.hits() == hits, "{} after {hits}", a.hits());
    scene.ensure_sane().await
}

#[tokio::test]
async fn ad_20_a_configuration_that_filters_refuse_is_told_in_the_parsers_words() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::faulty(vec![orders(&[&a], json!({}))]).await?;
    scene.envoy.expect_traps();
    let mut clients = scene.clients().await?;
    let served = revision(&scene.sidecar).await?;
    // The stories' module shows the filter only half of a configuration with this word in it.
    let mut poisoned = orders(&[&a], json!({}));
    let mut entry = backend(&b);
    entry["id"] = "x-fault-half".into();
    poisoned["backends"]
        .as_array_mut()
        .context("backends")?
        .push(entry);
    scene.store.put(poisoned)?;
    let reason =
        wait_for_status(&scene.sidecar, "/proxies/0/refused/reason", "must be JSON").await?;
    println!("refused: {reason}");
    let told = scene.sidecar.wait_for_events("config_refused", 1).await?;
    ensure!(told[0]["reason"] == reason, "{told:?}");
    let logged = scene.envoy.events();
    let logged: Vec<_> = logged
        .iter()
        .filter(|e| e.name() == "config_refused")
        .collect();
    // The canary wrote it down before the sidecar could hear of it.
    ensure!(!logged.is_empty() && logged.iter().all(|event| event.level == "error"));
    wait_for_nack(&scene.sidecar).await?;
    let order = answered_by(&mut clients, 40).await?;
    ensure!(order.iter().all(|backend| backend == "a"), "{order:?}");
    let status = scene.sidecar.status().await?;
    ensure!(
        status["proxies"][0]["revisions"] == json!([served]),
        "{status}"
    );
    scene.wait_for_whole("configs_total;r=refused", 1).await?;

    // A worker that takes its good configuration once more takes back no refusal of a later one.
    let response = fault(&mut clients[0], "trap").await?;
    ensure!(response.status == 503, "{}", response.status);
    eventually(SOON, "the VM to be back", async || {
        answered_by(&mut clients, 2).await.map(|_| ())
    })
    .await?;
    scene
        .throughout_ticks(async || {
            let refused = refused(&scene.sidecar).await?;
            ensure!(refused["reason"] == reason, "{refused}");
            Ok(())
        })
        .await?;

    scene
        .edit(|registry| registry.put(orders(&[&a, &b], json!({}))))
        .await?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    wait_for_ack(&scene.sidecar).await?;
    eventually(SOON, "the refusal to be over", async || {
        let refused = refused(&scene.sidecar).await?;
        ensure!(refused.is_null(), "{refused}");
        Ok(())
    })
    .await?;
    scene.sidecar.kill();
    scene.sidecar.restart().await?;
    scene.wait_for_the_workers().await?;
    let told = scene.sidecar.events("config_refused");
    ensure!(told.len() == 1, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn ad_20_a_static_envoy_does_not_start_with_a_registry_it_cannot_read() -> Result<()> {
    for (container, why) in [
        (
            json!({"schema": 1, "clusters": [{"name": "x", "weight": 1}]}),
            "clusters.x.weight",
        ),
        (json!({"schema": 1, "clusters": {}}), "clusters"),
        (json!("orders"), "must be"),
    ] {
        let error = Envoy::start(Bootstrap::fixed(&container)?).await.err();
        let error = format!("{:#}", error.context("it started")?);
        let line = error
            .lines()
            .find(|line| line.contains("event=config_refused"));
        let line = line.with_context(|| format!("no reason in {error}"))?;
        println!(
            "{}",
            line.split_once("event=").map_or(line, |(_, tail)| tail)
        );
        ensure!(line.contains(why), "{line}");
    }
    Ok(())
}
