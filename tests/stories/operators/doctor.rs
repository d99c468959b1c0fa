//! `pointsman doctor` on what an operator may have set up wrongly: each check meets a real Envoy that it
//! has to find fault with, and a good one that it has none with.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::client::post;
use harness::registry::cluster;
use harness::sidecar::{Ended, operate, run};
use harness::{Bootstrap, Clock, Envoy, Redis, Registry, Sidecar, Upstream, artefacts, eventually};
use serde_json::{Value, json};

use crate::scene::{self, CLUSTER, SOON, backends};

/// A sidecar on a registry with the cluster of the shipped route.
async fn sidecar(settings: &[(&str, &str)], one: &Upstream) -> Result<(Sidecar, Registry)> {
    let registry = Registry::new(vec![cluster(CLUSTER, &[one], json!({}))])?;
    Ok((Sidecar::start_with(&registry, settings).await?, registry))
}

async fn ask(sidecar: &Sidecar, envoy: &Envoy, more: &[&str]) -> Result<Ended> {
    let address = envoy.admin_address().to_string();
    let arguments = [&["doctor", "--envoy", &address], more].concat();
    operate(sidecar, &arguments, "").await
}

/// The checks that find fault; the exit code says whether any does.
fn checks(code: i32, out: &str) -> Result<BTreeSet<String>> {
    // What is for people stands behind it.
    let mut answers = serde_json::Deserializer::from_str(out).into_iter::<Value>();
    let answer = answers.next().context("no answer")?;
    let answer = answer.with_context(|| out.to_owned())?;
    let findings = answer["findings"].as_array().context("no findings")?;
    for part in ["what", "why", "mend"] {
        ensure!(findings.iter().all(|it| it[part] != ""), "{answer:#}");
    }
    let check = |it: &Value| it["check"].as_str().unwrap_or("?").to_owned();
    let checks: BTreeSet<String> = findings.iter().map(check).collect();
    ensure!(code == i32::from(!checks.is_empty()), "{code}: {out}");
    Ok(checks)
}

/// Waits until exactly these checks find fault with an Envoy that has a sidecar.
async fn finds(sidecar: &Sidecar, envoy: &Envoy, wanted: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
    eventually(SOON, &format!("{wanted:?}"), async || {
        let ended = ask(sidecar, envoy, &["-o", "json"]).await?;
        let found = checks(ended.code, &ended.out)?;
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })
    .await
}

/// The checks that find fault with an Envoy that runs from `static.yaml`.
async fn finds_alone(envoy: &Envoy) -> Result<BTreeSet<String>> {
    let address = envoy.admin_address().to_string();
    let arguments = ["doctor", "--no-sidecar", "--envoy", &address, "-o", "json"];
    let folder = tempfile::tempdir()?;
    let (code, out) = run(&arguments, &[], folder.path()).await?;
    checks(code, &out)
}

fn filters(bootstrap: &mut Bootstrap) -> Result<&mut Vec<Value>> {
    let filters = bootstrap.manager_mut()?["http_filters"].as_array_mut();
    filters.context("no filters")
}

fn route(bootstrap: &mut Bootstrap) -> Result<&mut Value> {
    Ok(&mut bootstrap.manager_mut()?["route_config"]["virtual_hosts"][0]["routes"][0]["route"])
}

fn remove(from: &mut Value, name: &str) {
    from.as_object_mut().map(|fields| fields.remove(name));
}

#[tokio::test]
async fn a_good_system_is_told_in_one_line() -> Result<()> {
    let [one] = backends(["one"])?;
    let (sidecar, _registry) = sidecar(&[], &one).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &envoy, &[]).await?;
    let ended = ask(&sidecar, &envoy, &[]).await?;
    println!("{}", ended.out);
    let version = artefacts::envoy_version()?;
    let line = format!(
        "Envoy {version} at {} and its sidecar: nothing is wrong\n",
        envoy.admin_address()
    );
    assert_eq!((ended.out, ended.code), (line, 0));
    let alone = scene::serve(&cluster(CLUSTER, &[&one], json!({}))).await?;
    assert_eq!(finds_alone(&alone).await?, BTreeSet::new());
    Ok(())
}

#[tokio::test]
async fn what_is_missing_beside_a_sidecar_is_named() -> Result<()> {
    let [one, other] = backends(["one", "other"])?;
    let (sidecar, _registry) = sidecar(&[], &one).await?;
    let mut bootstrap = Bootstrap::ads(sidecar.xds_address())?
        .endpoints(
            "pointsman_sidecar",
            &[sidecar.xds_address(), other.address()],
        )?
        .endpoints(CLUSTER, &[one.address()])?
        .edit(|root| remove(root, "stats_config"));
    remove(route(&mut bootstrap)?, "timeout");
    remove(bootstrap.manager_mut()?, "early_header_mutation_extensions");
    let module = &mut bootstrap.filter_mut("pointsman")?["config_discovery"]["default_config"];
    module["config"]["reload_config"]["backoff"]["base_interval"] = "0.001s".into();
    let envoy = Envoy::start(bootstrap).await?;
    let wanted = [
        "early-mutation",
        "reload-backoff",
        "several-sidecars",
        "shadowed-cluster",
        "stats-tags",
    ];
    // The route leads to the shadow, which is no cluster of ours.
    eventually(
        SOON,
        "all but what half of the streams to a wrong sidecar brings",
        async || {
            let ended = ask(&sidecar, &envoy, &["-o", "json"]).await?;
            let found = checks(ended.code, &ended.out)?;
            let found: Vec<&str> = found
                .iter()
                .map(String::as_str)
                .filter(|it| *it != "disconnected")
                .collect();
            ensure!(found == wanted, "{found:?}");
            Ok(())
        },
    )
    .await?;
    let shown = ask(&sidecar, &envoy, &[]).await?;
    println!("{}{}", shown.out, shown.errors);
    ensure!(
        shown.out.contains("\n  why:  ") && shown.out.contains("\n  mend: "),
        "{shown:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_in_a_static_bootstrap_is_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let document = cluster(CLUSTER, &[&one], json!({}));
    let mut bootstrap = scene::bootstrap(&document)?.edit(|root| {
        let cluster = &mut root["static_resources"]["clusters"][0];
        remove(cluster, "circuit_breakers");
        remove(cluster, "typed_extension_protocol_options");
    });
    let filter = bootstrap.filter_mut("pointsman")?;
    filter["typed_config"]["config"]["vm_config"]["vm_id"] = "mine".into();
    filters(&mut bootstrap)?.swap(0, 1);
    let route = route(&mut bootstrap)?;
    remove(route, "timeout");
    route["retry_policy"] = json!({"retry_on": "5xx"});
    let envoy = Envoy::start(bootstrap).await?;
    let wanted = [
        "circuit-breakers",
        "filter-order",
        "route-retries",
        "route-timeouts",
        "vm-id",
    ];
    assert_eq!(finds_alone(&envoy).await?, wanted.map(str::to_owned).into());

    let bootstrap = scene::bootstrap(&document)?.without_filter()?;
    let envoy = Envoy::start(bootstrap).await?;
    assert_eq!(finds_alone(&envoy).await?, ["no-filter".to_owned()].into());
    Ok(())
}

/// RL-5: what waits for bodies must get them, and room for them.
#[tokio::test]
async fn rl_5_bodies_that_envoy_does_not_hand_over_or_hold_are_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let document = |most: u32| {
        let rules = json!({"maxBodyBytes": most});
        cluster(CLUSTER, &[&one], json!({"jsonRpc": rules}))
    };
    // What the shipped virtual host holds, and one more.
    let held = 4_194_304;
    let envoy = scene::serve(&document(held)).await?;
    assert_eq!(finds_alone(&envoy).await?, BTreeSet::new());
    let envoy = scene::serve(&document(held + 1)).await?;
    assert_eq!(finds_alone(&envoy).await?, ["body-limit".to_owned()].into());
    let mut bootstrap = scene::bootstrap(&document(2_000_000))?;
    let filter = bootstrap.filter_mut("pointsman")?;
    let config = &mut filter["typed_config"]["config"];
    remove(config, "allow_on_headers_stop_iteration");
    let manager = bootstrap.manager_mut()?;
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    remove(host, "request_body_buffer_limit");
    let envoy = Envoy::start(bootstrap).await?;
    let wanted = ["body-limit", "body-switch"].map(str::to_owned);
    assert_eq!(finds_alone(&envoy).await?, wanted.into());

    // A sidecar sets the switch, and warns of what no listener holds by itself.
    let registry = Registry::new(vec![document(held + 1)])?;
    let sidecar = Sidecar::start_with(&registry, &[]).await?;
    sidecar.event("record_warned", 1).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &envoy, &["body-limit"]).await?;

    // Where the listener has no limit, 0, no end is set to what is held.
    let mut bootstrap = scene::bootstrap(&document(held))?.edit(|root| {
        root["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = json!(0);
    });
    let manager = bootstrap.manager_mut()?;
    manager["http2_protocol_options"]["initial_stream_window_size"] = json!(held);
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    remove(host, "request_body_buffer_limit");
    let envoy = Envoy::start(bootstrap).await?;
    assert_eq!(finds_alone(&envoy).await?, BTreeSet::new());
    // Nothing is known of it before its last byte.
    let body = format!("[{}1]", " ".repeat(held as usize - 3));
    let mut request = post("/", body.clone());
    let json = "application/json".parse()?;
    request.headers_mut().insert("content-type", json);
    one.forget();
    envoy.client().send(request).await?.ensure_from("one")?;
    let received = one.requests().pop().context("no request")?.body;
    ensure!(received == body.as_bytes(), "another body");
    Ok(())
}

#[tokio::test]
async fn requests_that_went_elsewhere_are_named() -> Result<()> {
    let [picked, known] = backends(["picked", "known"])?;
    let document = cluster(CLUSTER, &[&picked], json!({}));
    let bootstrap = scene::bootstrap(&document)?.endpoints(CLUSTER, &[known.address()])?;
    let envoy = Envoy::start(bootstrap).await?;
    envoy.client().get("/").await?;
    scene::wait_for_figure(&envoy, "picks_total", "spill", 1).await?;
    assert_eq!(finds_alone(&envoy).await?, ["spill".to_owned()].into());
    Ok(())
}

#[tokio::test]
async fn a_refused_module_and_a_start_without_one_are_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let (sidecar, _registry) = sidecar(&[("POINTSMAN_WASM", "/nowhere.wasm")], &one).await?;
    let mut bootstrap = Bootstrap::ads(sidecar.xds_address())?;
    remove(
        &mut bootstrap.filter_mut("pointsman")?["config_discovery"],
        "default_config",
    );
    let envoy = Envoy::start(bootstrap).await?;
    finds(&sidecar, &envoy, &["default-config", "nack"]).await
}

#[tokio::test]
async fn a_doubled_node_and_a_sidecar_that_is_gone_are_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let (sidecar, _registry) = sidecar(&[], &one).await?;
    let first = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &first, &[]).await?;
    let second = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &first, &["doubled-node"]).await?;
    // By what their filters report too, each for itself.
    eventually(SOON, "two processes of one node", async || {
        let proxies = sidecar.get("/v1/proxies").await?.json()?;
        let proxy = &proxies["proxies"][0];
        let (processes, doubled) = (proxy["processes"].as_array(), &proxy["doubled"]);
        ensure!(
            processes.is_some_and(|it| it.len() == 2) && doubled == true,
            "{proxies}"
        );
        Ok(())
    })
    .await?;
    drop(second);
    finds(&sidecar, &first, &[]).await?;
    sidecar.kill();
    finds(&sidecar, &first, &["disconnected", "sidecar-unreachable"]).await
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let clock = Clock::new()?;
    let follows = clock.environment();
    let follows = follows
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let (sidecar, _registry) = sidecar(&follows, &one).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &envoy, &[]).await?;
    let steps = [
        (60_000, "behind the sidecar's"),
        (-60_000, "ahead of the sidecar's"),
        (0, "nothing is wrong"),
    ];
    for (ahead_ms, told) in steps {
        clock.step_to(ahead_ms)?;
        // Whichever of its threads answers.
        for _ in 0..8 {
            let shown = ask(&sidecar, &envoy, &[]).await?.out;
            ensure!(
                shown.contains(told),
                "{ahead_ms} ms: no {told:?} in {shown}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_store_whose_clock_is_wrong_is_named() -> Result<()> {
    let [one] = backends(["one"])?;
    let redis = Redis::start().await?;
    redis.put(&cluster(CLUSTER, &[&one], json!({}))).await?;
    let clock = Clock::new()?;
    clock.step_to(3_600_000)?;
    let follows = clock.environment();
    let follows = follows.map(|(name, value)| (name.to_owned(), value));
    let settings = redis.settings().into_iter().chain(follows);
    let sidecar = Sidecar::start_on_store(settings).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    finds(&sidecar, &envoy, &["clock-skew"]).await?;
    let shown = ask(&sidecar, &envoy, &[]).await?.out;
    for whose in ["Envoy's", "the store's"] {
        let line = format!("clock-skew: {whose} clock is ");
        ensure!(shown.contains(&line), "no {line:?} in {shown}");
    }
    Ok(())
}
