//! How often a request is tried, where, and for how long.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::{get, post};
use harness::registry::cluster;
use harness::upstream::BlackHole;
use harness::{Behaviour, Envoy};
use serde_json::{Value, json};

use crate::scene::{
    self, CLUSTER, answered_by, backends, cluster_stat, figure, serve, shares,
    wait_for_connections, wait_for_figure,
};

/// RT-7 and RT-9: the only backend stands twice in the list, for resets. It is tried no third time,
/// and however often it refused one request, that is one failure. (Envoy's `reset` and
/// `reset-before-request` hold for refused connections too, so those are tried twice as well.)
#[tokio::test]
async fn rt_7_a_lone_backend_is_tried_twice_at_most() -> Result<()> {
    let [a] = backends(["a"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a], json!({}))).await?;
    let mut client = envoy.client();
    a.set(Behaviour::ResetAfter(1));
    answered_by(&mut client, 50).await?;
    let retries = cluster_stat("upstream_rq_retry");
    let replayed = envoy.wait_for_stat_at_least(&retries, 20).await?;
    println!("RT-9: a lone backend, half of 50 GETs reset: {replayed} replayed, all answered");

    a.set(Behaviour::ResetOnRequest);
    let before = a.hits();
    assert_eq!(client.get("/").await?.status, 503);
    assert_eq!(a.hits() - before, 2, "a GET that is reset");
    a.stop().await;
    assert_eq!(client.send(post("/", "order")).await?.status, 503);
    let refusals = cluster_stat("upstream_cx_connect_fail");
    envoy.wait_for_stat(&refusals, 2).await?;
    wait_for_figure(&envoy, "failed_attempts_total", "connect", 1).await
}

/// RT-6: two of three down and every request is served; three of three, and each is tried once.
#[tokio::test]
async fn rt_6_rt_7_as_many_distinct_backends_are_tried_as_there_are_attempts() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let eager = json!({"backoff": {"base": "10ms", "max": "10ms"}});
    let envoy = serve(&cluster(CLUSTER, &[&a, &b, &c], eager)).await?;
    a.stop().await;
    b.stop().await;
    let order = answered_by(&mut envoy.client(), 300).await?;
    assert_eq!(shares(&order), [("c", 300)].into());
    let exhausted = figure(&envoy, "retries_exhausted_total", "").await?;
    println!("RT-6: a and b down: 300 of 300 answered by c, exhausted {exhausted}");
    assert_eq!(exhausted, 0);
    drop(envoy);

    c.stop().await;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b, &c], json!({}))).await?;
    let response = envoy.client().get("/").await?;
    wait_for_figure(&envoy, "retries_exhausted_total", "", 1).await?;
    let tried = connect_failures(&envoy).await?;
    println!("RT-6: all down: {}, tried {tried:?}", response.status);
    assert_eq!(response.status, 503);
    assert_eq!(tried, [1, 1, 1], "each once");
    Ok(())
}

/// Failed connections to each host of `orders`.
pub async fn connect_failures(envoy: &Envoy) -> Result<Vec<u64>> {
    let clusters = envoy.clusters().await?;
    let statuses = clusters["cluster_statuses"]
        .as_array()
        .into_iter()
        .flatten();
    let hosts = statuses
        .filter(|status| status["name"] == CLUSTER)
        .flat_map(|status| status["host_statuses"].as_array().into_iter().flatten());
    let count = |host: &Value| {
        let stats = host["stats"].as_array().into_iter().flatten();
        let mut failures = stats.filter(|stat| stat["name"] == "cx_connect_fail");
        // Envoy leaves zeros out, and prints 64-bit numbers as text.
        failures
            .next()
            .and_then(|stat| stat["value"].as_str()?.parse().ok())
            .unwrap_or_default()
    };
    Ok(hosts.map(count).collect())
}

/// RT-8: backends that do not even refuse cost one connect timeout each, and then it ends.
#[tokio::test]
async fn rt_8_a_request_ends_in_bounded_time_when_nobody_connects() -> Result<()> {
    let holes = [
        BlackHole::open().await?,
        BlackHole::open().await?,
        BlackHole::open().await?,
    ];
    let backends: Vec<Value> = holes
        .iter()
        .map(|hole| json!({"address": hole.address().to_string()}))
        .collect();
    let document = json!({"name": CLUSTER, "backends": backends, "retry": {"attempts": 2}});
    let timeout = |root: &mut Value| {
        root["static_resources"]["clusters"][0]["connect_timeout"] = "0.25s".into();
    };
    let envoy = Envoy::start(scene::bootstrap(&document)?.edit(timeout)).await?;
    let start = Instant::now();
    let response = envoy.client().get("/").await?;
    let took = start.elapsed();
    println!(
        "RT-8: two attempts of 250 ms: {} after {took:?}",
        response.status
    );
    assert_eq!(response.status, 503);
    let given_up = cluster_stat("upstream_cx_connect_timeout");
    envoy.wait_for_stat(&given_up, 2).await?;
    // Two timeouts, and far less than the route's own of 15 s.
    ensure!(
        (Duration::from_millis(500)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    let idle = envoy
        .process()
        .cpu_during(Duration::from_millis(500))
        .await?;
    println!("RT-8: CPU in the half second after it: {idle:?}");
    ensure!(
        idle < Duration::from_millis(200),
        "it is busy with something"
    );
    Ok(())
}

/// RT-10: an answer of the backend is its answer, whatever befell the request elsewhere: a filter delayed
/// it, or the one retry was used up. Envoy's flags tell of both. A failure behind such an answer is none.
#[tokio::test]
async fn rt_10_what_came_from_the_backend_is_an_answer_whatever_envoys_flags_say() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "sticky": {"cookie": "P"},
        "retry": {"attempts": 2, "on": [503]},
    });
    let mut bootstrap = scene::bootstrap(&cluster(CLUSTER, &[&a, &b], settings))?;
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let delay = json!({"fixed_delay": "0.001s", "percentage": {"numerator": 100}});
    let filters = bootstrap.manager_mut()?["http_filters"].as_array_mut();
    filters.context("no filters")?.insert(
        0,
        json!({"name": "fault", "typed_config": {"@type": fault, "delay": delay}}),
    );
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    for (status, attempts) in [(500, 1), (503, 2)] {
        for backend in [&a, &b] {
            backend.set(Behaviour::status(status));
            backend.forget();
        }
        for nth in 1..=4 {
            let answer = client.get("/").await?;
            let cookie = answer.header("set-cookie").context("nobody is named")?;
            let server = answer.backend().context("no backend")?;
            ensure!(cookie.starts_with(&format!("P={server};")), "{answer:?}");
            ensure!(
                a.hits() + b.hits() == nth * attempts,
                "{status}: request {nth}"
            );
        }
    }
    assert_eq!(figure(&envoy, "retries_exhausted_total", "").await?, 0);

    // One answers, which is retried; the other, the next on its list, refuses.
    b.stop().await;
    wait_for_connections(&envoy, 1).await?;
    let mut request = get("/");
    request.headers_mut().insert("cookie", "P=a".parse()?);
    let answer = client.send(request).await?;
    ensure!(answer.backend().is_none(), "{answer:?}");
    ensure!(answer.header("set-cookie").is_none(), "{answer:?}");
    wait_for_figure(&envoy, "failed_attempts_total", "connect", 1).await
}
