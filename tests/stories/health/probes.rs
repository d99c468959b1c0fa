//! Probes as the backend sees them, and what the sidecar makes of the answers (HC-1 to 13).

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Registry, Sidecar, Upstream, eventually};
use serde_json::{Value, json};

use crate::fleet::scene::{
    CLUSTER, SOON, Scene, backends, check, is_healthy, orders, revision, wait_for_verdict,
};
use crate::scene::wait_for_probes;

async fn probing(backends: &[&Upstream], check: Value) -> Result<(Registry, Sidecar)> {
    let extra = json!({"healthCheck": check});
    let registry = Registry::new(vec![orders(backends, extra)])?;
    let sidecar = Sidecar::start(&registry).await?;
    Ok((registry, sidecar))
}

/// One metric's value; `None` when there is no such series.
async fn metric(sidecar: &Sidecar, series: &str) -> Result<Option<u64>> {
    let text = sidecar.metrics().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    Ok(line.map(str::trim).map(str::parse).transpose()?)
}

/// Waits until a metric has reached a value, and fails when it has exceeded it.
async fn wait_for_metric(sidecar: &Sidecar, series: &str, wanted: u64) -> Result<()> {
    eventually(SOON, &format!("{series} to be {wanted}"), async || {
        let value = metric(sidecar, series).await?;
        ensure!(value == Some(wanted), "{value:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hc_1_status_shows_the_defaults() -> Result<()> {
    let [a] = backends(["a"])?;
    let (_registry, sidecar) = probing(&[&a], json!({"http": {}})).await?;
    let shown = sidecar.status().await?["clusters"][0]["healthCheck"].clone();
    println!("{shown}");
    ensure!(shown["http"]["path"] == "/healthz" && shown["http"]["method"] == "GET");
    ensure!(shown["http"]["expectedStatuses"] == json!(["200-299"]));
    ensure!(shown["interval"] == "10s" && shown["timeout"] == "5s");
    ensure!(shown["healthyThreshold"] == 3 && shown["unhealthyThreshold"] == 3);
    Ok(())
}

#[tokio::test]
async fn hc_3_9_a_probe_is_a_plain_get_on_a_connection_of_its_own() -> Result<()> {
    let [a] = backends(["a"])?;
    let (_registry, _sidecar) = probing(&[&a], check(50, 2)).await?;
    wait_for_probes(&a, 5).await?;
    let probes = a.probes();
    for probe in &probes {
        let fields: Vec<&str> = probe.headers.keys().map(|name| name.as_str()).collect();
        ensure!(probe.method == "GET" && probe.path == "/healthz" && probe.body.is_empty());
        ensure!(probe.header("host") == Some(a.address().to_string().as_str()));
        ensure!(probe.header("connection") == Some("close"));
        ensure!(fields == ["host", "connection"], "{fields:?}");
        ensure!(probe.nth == 0, "the second request of a connection");
    }
    println!(
        "{} probes: GET /healthz, host {}, connection close",
        probes.len(),
        a.address()
    );
    Ok(())
}

#[tokio::test]
async fn hc_5_only_expected_statuses_pass() -> Result<()> {
    for (expected, status, healthy) in [
        (json!(["200-299"]), 299, true),
        (json!(["200-299"]), 301, false),
        (json!(["200"]), 204, false),
        (json!([404, "500-502"]), 502, true),
    ] {
        let [a] = backends(["a"])?;
        a.set_health(Behaviour::status(status));
        let mut check = check(50, 2);
        check["http"]["expectedStatuses"] = expected.clone();
        let (_registry, sidecar) = probing(&[&a], check).await?;
        wait_for_probes(&a, 3).await?;
        if !healthy {
            wait_for_verdict(&sidecar, "a", false).await?;
            let backend = &sidecar.status().await?["clusters"][0]["backends"][0];
            let reason = backend["lastFailureReason"].clone();
            ensure!(reason == format!("status {status}"), "{reason}");
        }
        ensure!(is_healthy(&sidecar, "a").await? == healthy);
        println!("{status} where {expected} is expected: healthy={healthy}");
    }
    Ok(())
}

/// Answers the next probe as told, and waits for the one after it, which is held.
async fn answer_one(backend: &Upstream, behaviour: Behaviour) -> Result<()> {
    eventually(SOON, "a probe that waits", async || {
        ensure!(backend.in_flight() == 1);
        Ok(())
    })
    .await?;
    backend.set_health(behaviour);
    eventually(SOON, "its answer", async || {
        ensure!(backend.in_flight() == 0);
        Ok(())
    })
    .await?;
    backend.set_health(Behaviour::Hold);
    // One probe at a time: with the next one here, the answer has been judged.
    eventually(SOON, "the next probe", async || {
        ensure!(backend.in_flight() == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hc_6_12_only_failures_in_a_row_take_a_backend_out() -> Result<()> {
    let [a] = backends(["a"])?;
    a.set_health(Behaviour::Hold);
    let (_registry, sidecar) = probing(&[&a], check(300, 3)).await?;
    let fail = || Behaviour::status(500);
    for answer in [fail(), fail(), Behaviour::Ok, fail(), fail()] {
        answer_one(&a, answer).await?;
        ensure!(is_healthy(&sidecar, "a").await?);
    }
    answer_one(&a, fail()).await?;
    wait_for_verdict(&sidecar, "a", false).await?;
    for answer in [
        Behaviour::Ok,
        Behaviour::Ok,
        fail(),
        Behaviour::Ok,
        Behaviour::Ok,
    ] {
        answer_one(&a, answer).await?;
        ensure!(!is_healthy(&sidecar, "a").await?);
    }
    answer_one(&a, Behaviour::Ok).await?;
    wait_for_verdict(&sidecar, "a", true).await?;
    println!("F F S F F F: down at the last one; S S F S S S: up at the last one");
    for (event, verdict) in [
        ("backend_unhealthy", "unhealthy"),
        ("backend_healthy", "healthy"),
    ] {
        let told = sidecar.wait_for_events(event, 1).await?;
        let series = format!(
            "pointsman_verdict_changes_total{{pointsman_cluster=\"{CLUSTER}\",verdict=\"{verdict}\"}}"
        );
        wait_for_metric(&sidecar, &series, 1).await?;
        let address = a.address().to_string();
        ensure!(
            told[0]["cluster"] == CLUSTER && told[0]["backend"] == "a",
            "{told:?}"
        );
        ensure!(told[0]["address"] == address, "{told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn hc_9_a_hanging_backend_has_one_probe_at_a_time() -> Result<()> {
    let [a] = backends(["a"])?;
    a.set_health(Behaviour::Hold);
    // Due again long before it gives up.
    let mut check = check(20, 2);
    check["timeout"] = "200ms".into();
    let (_registry, sidecar) = probing(&[&a], check).await?;
    wait_for_verdict(&sidecar, "a", false).await?;
    wait_for_probes(&a, 12).await?;
    let starts: Vec<_> = a.probes().iter().map(|probe| probe.at).collect();
    let took = starts[11] - starts[0];
    println!("interval 20 ms, timeout 200 ms: 12 probes begin within {took:?}");
    // Eleven timeouts and intervals, but for one: the way from the prober to the backend varies.
    ensure!(took >= 10 * Duration::from_millis(200));
    Ok(())
}

#[tokio::test]
async fn hc_10_a_drained_backend_is_not_probed_and_keeps_its_verdict() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    a.set_health(Behaviour::status(500));
    let (mut registry, sidecar) = probing(&[&a, &b], check(50, 2)).await?;
    wait_for_verdict(&sidecar, "a", false).await?;
    registry.edit_backend(CLUSTER, "a", |backend| backend["state"] = "Draining".into())?;
    eventually(SOON, "the edit", async || {
        let status = sidecar.status().await?;
        ensure!(status["clusters"][0]["backends"][0]["state"] == "Draining");
        Ok(())
    })
    .await?;
    let others = b.probes().len();
    wait_for_probes(&b, others + 2).await?;
    let (before, others) = (a.probes().len(), b.probes().len());
    wait_for_probes(&b, others + 10).await?;
    println!(
        "while the other was probed 10 times: {} probes",
        a.probes().len() - before
    );
    ensure!(a.probes().len() == before);
    registry.edit_backend(CLUSTER, "a", |backend| backend["state"] = "Normal".into())?;
    wait_for_probes(&a, before + 1).await?;
    ensure!(
        !is_healthy(&sidecar, "a").await?,
        "no probe has passed since"
    );
    Ok(())
}

#[tokio::test]
async fn hc_13_results_are_counted_and_nobody_healthy_is_a_zero() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let (mut registry, sidecar) = probing(&[&a, &b], check(50, 2)).await?;
    let healthy = format!("pointsman_healthy_backends{{pointsman_cluster=\"{CLUSTER}\"}}");
    wait_for_metric(&sidecar, &healthy, 2).await?;
    for backend in [&a, &b] {
        backend.set_health(Behaviour::status(500));
    }
    wait_for_metric(&sidecar, &healthy, 0).await?;
    let of = |name: &str, label: &str| {
        format!("pointsman_{name}_total{{pointsman_cluster=\"{CLUSTER}\",{label}}}")
    };
    let (failed, status) = (
        of("probes", "result=\"fail\""),
        of("probe_failures", "reason=\"status\""),
    );
    eventually(SOON, "four failures by status", async || {
        let failed = metric(&sidecar, &failed).await?;
        let status = metric(&sidecar, &status).await?;
        ensure!(
            failed >= Some(4) && status >= Some(4),
            "{failed:?} {status:?}"
        );
        Ok(())
    })
    .await?;
    // Series vanish with their cluster.
    registry.put(cluster("another", &[&a], json!({})))?;
    registry.remove(CLUSTER)?;
    eventually(SOON, "the series to vanish", async || {
        let text = sidecar.metrics().await?;
        ensure!(!text.contains(&format!("\"{CLUSTER}\"")), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_check_is_obeyed_and_no_worker_reloads() -> Result<()> {
    let [a] = backends(["a"])?;
    let extra = json!({"healthCheck": check(50, 2)});
    let mut scene = Scene::start(vec![orders(&[&a], extra)]).await?;
    scene.clients().await?;
    let served = revision(&scene.sidecar).await?;
    let applied = scene.whole("configs_total;r=applied").await?;
    scene.store.edit(CLUSTER, |document| {
        document["healthCheck"]["http"]["method"] = "HEAD".into();
    })?;
    eventually(SOON, "a probe of the other kind", async || {
        ensure!(
            a.probes()
                .last()
                .is_some_and(|probe| probe.method == "HEAD")
        );
        Ok(())
    })
    .await?;
    scene
        .throughout_ticks(async || {
            let now = scene.whole("configs_total;r=applied").await?;
            ensure!(now == applied, "{applied} configurations became {now}");
            ensure!(revision(&scene.sidecar).await? == served);
            Ok(())
        })
        .await
}
