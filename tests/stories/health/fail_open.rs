//! Probes fail everywhere while the application answers: requests still flow, or are refused where
//! the registry says so (GT-5, 7, 8, 10; invariant 3).

use anyhow::{Result, ensure};
use harness::registry::backup;
use harness::{Behaviour, Upstream, eventually};
use serde_json::json;

use crate::fleet::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, check, orders, wait_for_servers,
};

fn set_health(backends: &[&Upstream], behaviour: &Behaviour) {
    for backend in backends {
        backend.set_health(behaviour.clone());
    }
}

/// The gauges `fail_open`, `all_down`, `available_backends`, `total_backends` of the cluster.
async fn gauges(scene: &Scene) -> Result<[u64; 4]> {
    let mut values = [0; 4];
    let names = [
        "fail_open",
        "all_down",
        "available_backends",
        "total_backends",
    ];
    for (value, name) in values.iter_mut().zip(names) {
        *value = scene.figure(name, "").await?;
    }
    Ok(values)
}

async fn wait_for_gauges(scene: &Scene, wanted: [u64; 4]) -> Result<()> {
    eventually(SOON, "the gauges", async || {
        let now = gauges(scene).await?;
        ensure!(now == wanted, "{now:?}, not {wanted:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn gt_5_7_9_10_failing_probes_everywhere_cost_no_request_and_are_told_once() -> Result<()> {
    let [a, b, spare] = backends(["a", "b", "spare"])?;
    let all = [&a, &b, &spare];
    let mut document = orders(&[&a, &b], json!({"healthCheck": check(100, 2)}));
    if let Some(entries) = document["backends"].as_array_mut() {
        entries.push(backup(&spare));
    }
    let scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    // GT-9: right after the start, not only after something went wrong.
    wait_for_gauges(&scene, [0, 0, 3, 3]).await?;

    set_health(&all, &Behaviour::status(500));
    wait_for_gauges(&scene, [0, 1, 0, 3]).await?;
    let order = answered_by(&mut clients, 1000).await?;
    scene
        .wait_for_figure("picks_total", "fail_open", 1000)
        .await?;
    let by = |id: &str| order.iter().filter(|backend| *backend == id).count();
    let shares = [by("a"), by("b"), by("spare")];
    println!("outage: 1000 GETs over 2 workers, all fail-open picks, a b spare: {shares:?}");
    // Primaries and backups together, as health says nothing any more.
    ensure!(
        shares.iter().all(|share| (332..=335).contains(share)),
        "{shares:?}"
    );
    wait_for_gauges(&scene, [1, 1, 0, 3]).await?;

    set_health(&all, &Behaviour::Ok);
    let healed = wait_for_servers(&mut clients, &["a", "b"]).await?;
    wait_for_gauges(&scene, [0, 0, 3, 3]).await?;
    println!("healed: only primaries serve after {healed:?}");
    for (name, level) in [
        ("all_down", "error"),
        ("fail_open_entered", "warning"),
        ("fail_open_left", "info"),
        ("recovered", "info"),
    ] {
        scene.wait_for_figure("events_total", name, 1).await?;
        let lines = scene.envoy.wait_for_events(name, 1).await?;
        ensure!(lines[0].level == level && lines[0].field("cluster") == CLUSTER);
    }
    scene.ensure_sane().await
}

#[tokio::test]
async fn gt_8_where_the_registry_says_refuse_nobody_unhealthy_is_asked() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 2), "whenAllUnhealthy": "Refuse"});
    let scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    set_health(&[&a, &b], &Behaviour::status(500));
    wait_for_gauges(&scene, [0, 1, 0, 2]).await?;
    let hits = a.hits() + b.hits();
    for nth in 0..20 {
        let response = clients[nth % 2].get("/").await?;
        ensure!(response.status == 503, "{}", response.status);
        let body = response.json()?;
        ensure!(
            body["reason"] == "all_unhealthy" && body["cluster"] == CLUSTER,
            "{body}"
        );
        ensure!(response.header("cache-control") == Some("no-cache"));
    }
    scene
        .wait_for_figure("refusals_total", "all_unhealthy", 20)
        .await?;
    ensure!(a.hits() + b.hits() == hits);
    ensure!(scene.figure("picks_total", "fail_open").await? == 0);
    ensure!(scene.envoy.count_events("fail_open_entered", CLUSTER) == 0);
    set_health(&[&a, &b], &Behaviour::Ok);
    wait_for_gauges(&scene, [0, 0, 2, 2]).await?;
    answered_by(&mut clients, 20).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn gt_1_hc_22_an_unhealthy_backend_gets_nothing_while_another_is_healthy() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(100, 2)});
    let scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    let before = a.hits();
    let order = answered_by(&mut clients, 400).await?;
    println!(
        "400 GETs over 2 workers: {} to the unhealthy one",
        a.hits() - before
    );
    ensure!(a.hits() == before && order.iter().all(|backend| backend == "b"));
    ensure!(scene.figure("picks_total", "fail_open").await? == 0);
    wait_for_gauges(&scene, [0, 0, 1, 2]).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn an_operators_word_holds_though_nobody_else_is_healthy() -> Result<()> {
    let [cordoned, draining, a, b] = backends(["cordoned", "draining", "a", "b"])?;
    let extra = json!({"healthCheck": check(100, 2), "backoff": {"base": "60s"}});
    let mut document = orders(&[&cordoned, &draining, &a, &b], extra);
    document["backends"][0]["state"] = "Cordoned".into();
    document["backends"][1]["state"] = "Draining".into();
    let scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    set_health(&[&a, &b], &Behaviour::status(500));
    wait_for_gauges(&scene, [0, 1, 0, 4]).await?;
    let order = answered_by(&mut clients, 200).await?;
    ensure!(
        order
            .iter()
            .all(|backend| ["a", "b"].contains(&backend.as_str()))
    );
    scene
        .wait_for_figure("picks_total", "fail_open", 200)
        .await?;
    // Nor when nobody else answers at all: what is left is a 503 that says when to come back.
    a.stop().await;
    b.stop().await;
    let answer = eventually(SOON, "both in back-off", async || {
        let response = clients[0].get("/").await?;
        let body = response.json();
        ensure!(body.is_ok_and(|body| body["reason"] == "all_backing_off"));
        Ok(response)
    })
    .await?;
    let retry_after = answer.header("retry-after").map(str::to_owned);
    println!(
        "{} requests by the unhealthy, {} by the cordoned, {} by the draining; then {} {:?}",
        order.len(),
        cordoned.hits(),
        draining.hits(),
        answer.status,
        retry_after
    );
    ensure!(answer.status == 503 && retry_after.is_some());
    ensure!(cordoned.hits() + draining.hits() == 0);
    ensure!(cordoned.accepted().is_empty() && draining.accepted().is_empty());
    scene.ensure_sane().await
}
