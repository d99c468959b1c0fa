//! Who serves when some cannot: backups, nobody, and back again.

use anyhow::{Result, ensure};
use harness::client::{Response, get};
use harness::registry::{backend, backup, cluster};
use harness::{Bootstrap, Client, Envoy, Upstream, eventually};
use serde_json::{Value, json};

use crate::scene::{
    CLUSTER, SOON, answered_by, backends, cluster_stat, figure, serve, shares, wait_for_figure,
    wait_for_figure_at_least,
};

/// Windows long enough that none ends during a story.
fn patient() -> Value {
    json!({"backoff": {"base": "30s", "max": "30s"}})
}

/// Sends GETs until one is answered by `wanted`; whatever is not 200 is an error.
async fn until_answered_by(client: &mut Client, wanted: &Upstream) -> Result<()> {
    eventually(SOON, &format!("an answer of {}", wanted.id()), async || {
        let order = answered_by(client, 1).await?;
        ensure!(order == [wanted.id()], "{order:?}");
        Ok(())
    })
    .await
}

/// GT-4: the backup serves when no primary can, and then alone; one primary back, and it rests.
#[tokio::test]
async fn gt_4_a_backup_serves_only_while_no_primary_can() -> Result<()> {
    let [a, b, spare] = backends(["a", "b", "spare"])?;
    let settings = json!({
        "backoff": {"base": "500ms", "max": "500ms"},
        "loadBalancing": {"policy": "RoundRobin"},
    });
    let mut document = cluster(CLUSTER, &[&a, &b], settings);
    document["backends"] = json!([backend(&a), backend(&b), backup(&spare)]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    let all_up = answered_by(&mut client, 100).await?;
    a.stop().await;
    let one_down = answered_by(&mut client, 100).await?;
    b.stop().await;
    let both_down = answered_by(&mut client, 100).await?;
    b.start()?;
    until_answered_by(&mut client, &b).await?;
    let one_back = answered_by(&mut client, 100).await?;
    let picks = wait_for_figure_at_least(&envoy, "picks_total", "backup", 1).await?;
    let all = [&all_up, &one_down, &both_down, &one_back].map(|order| shares(order));
    println!("GT-4: all up, a down, both down, b back: {all:?}; {picks} picks of the backup");
    assert_eq!(all[0], [("a", 50), ("b", 50)].into());
    assert_eq!(all[1], [("b", 100)].into());
    assert_eq!(all[2], [("spare", 100)].into());
    assert_eq!(all[3], [("b", 100)].into());
    Ok(())
}

/// GT-6 and AD-18: everybody inside a back-off: 503 from the filter, with the time to come back,
/// and not one connection attempt.
#[tokio::test]
async fn gt_6_ad_18_all_in_back_off_is_a_503_that_touches_no_backend() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b, &c], patient())).await?;
    for backend in [&a, &b, &c] {
        backend.stop().await;
    }
    let mut client = envoy.client();
    let first = client.get("/").await?;
    assert_eq!(first.status, 503, "Envoy's own, after three attempts");
    for backend in [&a, &b, &c] {
        backend.start()?;
    }
    for _ in 0..100 {
        let response = client.get("/").await?;
        ensure_refusal(&response, "all_backing_off")?;
        let seconds: u64 = response.header("retry-after").unwrap_or_default().parse()?;
        ensure!((10..=30).contains(&seconds), "Retry-After: {seconds}");
    }
    let last = client.get("/").await?;
    wait_for_figure(&envoy, "refusals_total", "all_backing_off", 101).await?;
    let connections = cluster_stat("upstream_cx_total");
    envoy.wait_for_stat(&connections, 3).await?;
    let (body, after) = (last.text(), last.header("retry-after"));
    println!("GT-6: 101 requests refused, Retry-After {after:?}, {body}");
    println!("GT-6: 3 connection attempts, those of the request that found out");
    assert_eq!(
        a.accepted().len() + b.accepted().len() + c.accepted().len(),
        0
    );
    Ok(())
}

fn ensure_refusal(response: &Response, reason: &str) -> Result<()> {
    ensure!(response.status == 503, "{}", response.status);
    ensure!(response.header("content-type") == Some("application/json"));
    ensure!(response.header("cache-control") == Some("no-cache"));
    ensure!(response.backend().is_none());
    let body = response.json()?;
    ensure!(
        body["cluster"] == CLUSTER && body["reason"] == reason,
        "{body}"
    );
    ensure!(body["error"] == "no backend available", "{body}");
    // Envoy gives every request an id, 36 characters long.
    ensure!(
        body["requestId"].as_str().is_some_and(|id| id.len() == 36),
        "{body}"
    );
    Ok(())
}

/// AD-18: a cluster has its own words; whatever the client calls its request comes back harmless.
#[tokio::test]
async fn ad_18_a_refusal_is_the_clusters_own_and_repeats_nothing_dangerous() -> Result<()> {
    let words = json!({"refusal": {"body": "<p>Back soon.</p>", "contentType": "text/html"}});
    let envoy = serve(&cluster(CLUSTER, &[], words)).await?;
    let response = envoy.client().get("/").await?;
    println!("AD-18: own words: {} {}", response.status, response.text());
    assert_eq!(
        (response.status.as_u16(), response.text().as_str()),
        (503, "<p>Back soon.</p>")
    );
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    drop(envoy);

    let keep_ids = |root: &mut Value| {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        if let Some(manager) = root.pointer_mut(path) {
            manager["preserve_external_request_id"] = true.into();
        }
    };
    let document = cluster(CLUSTER, &[], json!({}));
    let envoy = Envoy::start(crate::scene::bootstrap(&document)?.edit(keep_ids)).await?;
    let mut request = get("/");
    let id = format!("\"}}<script>{}", "x".repeat(500));
    request.headers_mut().insert("x-request-id", id.parse()?);
    let response = envoy.client().send(request).await?;
    let repeated = response.json()?["requestId"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    println!(
        "AD-18: a request id of {} bytes comes back as {}",
        id.len(),
        repeated.len()
    );
    assert_eq!(repeated, id[..128], "cut, and quoted as JSON");
    Ok(())
}

/// LB-19: a cluster without backends is refused here; one that the registry does not know is none
/// of our business and balanced by Envoy.
#[tokio::test]
async fn lb_19_an_empty_cluster_is_refused_and_an_unknown_one_left_to_envoy() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let documents = json!([cluster(CLUSTER, &[], json!({}))]);
    let bootstrap = Bootstrap::fixed(&json!({"schema": 1, "clusters": documents}))?
        .endpoints(CLUSTER, &[])?
        .endpoints("strangers", &[a.address(), b.address()])?
        .route("/strangers", "strangers")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    let empty = client.get("/").await?;
    ensure_refusal(&empty, "no_backends")?;
    ensure!(empty.header("retry-after").is_none(), "nobody knows when");
    for _ in 0..50 {
        assert_eq!(client.get("/strangers").await?.status, 200);
    }
    wait_for_figure(&envoy, "refusals_total", "no_backends", 1).await?;
    let total = figure(&envoy, "total_backends", "").await?;
    println!(
        "LB-19: empty: {}; unknown: a {}, b {}",
        empty.text(),
        a.hits(),
        b.hits()
    );
    assert_eq!(total, 0);
    ensure!(a.hits() > 0 && b.hits() > 0);
    let events = envoy.count_events("all_down", CLUSTER);
    assert_eq!(events, 0, "GT-10: an empty cluster is not down");
    Ok(())
}

/// GT-9, GT-10 and GT-11: all-down and recovered are told once each, without any health check.
#[tokio::test]
async fn gt_10_gt_11_all_down_and_recovered_are_told_once_each() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let settings = json!({"backoff": {"base": "100ms", "max": "100ms", "maxTries": 2}});
    let document = cluster(CLUSTER, &[&a, &b, &c], settings);
    let envoy = Envoy::start(crate::scene::bootstrap(&document)?.concurrency(2)).await?;
    let gauges = async |available: u64, all_down: u64| {
        eventually(SOON, "the gauges", async || {
            let seen = [
                figure(&envoy, "available_backends", "").await?,
                figure(&envoy, "total_backends", "").await?,
                figure(&envoy, "all_down", "").await?,
            ];
            ensure!(seen == [available, 3, all_down], "{seen:?}");
            Ok(())
        })
        .await
    };
    gauges(3, 0).await?;
    println!("GT-9: 3 of 3 available before the first request");
    for backend in [&a, &b, &c] {
        backend.stop().await;
    }
    ensure_told_once(&envoy, "all_down").await?;
    gauges(0, 1).await?;
    for backend in [&a, &b, &c] {
        backend.start()?;
    }
    ensure_told_once(&envoy, "recovered").await?;
    gauges(3, 0).await?;
    let events = ["all_down", "recovered"].map(|name| envoy.count_events(name, CLUSTER));
    println!("GT-10: all_down and recovered, after all: {events:?}");
    assert_eq!(events, [1, 1]);
    Ok(())
}

/// Sends GETs until the event has come, and on: it is counted once and logged once.
async fn ensure_told_once(envoy: &Envoy, name: &str) -> Result<()> {
    let mut clients = [(); 4].map(|()| envoy.client());
    let mut count = async || {
        for client in &mut clients {
            client.get("/").await?;
        }
        let counted = figure(envoy, "events_total", name).await?;
        anyhow::Ok((counted, envoy.count_events(name, CLUSTER)))
    };
    eventually(SOON, name, async || {
        ensure!(count().await?.0 > 0);
        Ok(())
    })
    .await?;
    for _ in 0..50 {
        let seen = count().await?;
        ensure!(seen == (1, 1), "{name}: {seen:?}");
    }
    Ok(())
}

/// GT-1 and invariant 9: a drained or cordoned backend gets nothing, not as a pick, not as the next
/// in the list, not by a cookie, not when nobody else is left.
#[tokio::test]
async fn gt_1_drained_and_cordoned_backends_get_no_request() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let mut settings = patient();
    settings["sticky"] = json!({"cookie": "POINTSMAN"});
    let mut document = cluster(CLUSTER, &[&a, &b, &c], settings);
    document["backends"][1]["state"] = "Draining".into();
    document["backends"][2]["state"] = "Cordoned".into();
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    for id in ["a", "b", "c"] {
        for _ in 0..20 {
            let mut request = get("/");
            request
                .headers_mut()
                .insert("cookie", format!("POINTSMAN={id}").parse()?);
            assert_eq!(client.send(request).await?.backend(), Some("a"));
        }
    }
    a.stop().await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(client.get("/").await?.status.as_u16());
    }
    let (drained, cordoned) = (b.accepted().len(), c.accepted().len());
    println!("GT-1: 60 GETs to a, then a is dead: {statuses:?}; connections {drained}, {cordoned}");
    assert_eq!((statuses, drained, cordoned), (vec![503; 10], 0, 0));
    Ok(())
}
