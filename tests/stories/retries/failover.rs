//! A backend fails and no client notices: the next entry of the list serves.

use anyhow::{Result, ensure};
use harness::client::post;
use harness::registry::cluster;
use harness::{Behaviour, Bootstrap, Client, Envoy, Upstream};
use serde_json::{Value, json};

use crate::scene::{
    self, CLUSTER, answered_by, backends, cluster_stat, figure, serve, shares, wait_for_figure,
    wait_for_figure_at_least,
};

/// The failing backend is tried again and again: every window is as short as can be.
fn eager() -> Value {
    json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "10ms", "max": "10ms"},
    })
}

/// The upstream protocol of `orders` is HTTP/2.
pub fn h2(bootstrap: Bootstrap) -> Bootstrap {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    bootstrap.edit(|root| {
        let cluster = &mut root["static_resources"]["clusters"][0];
        cluster["typed_extension_protocol_options"][options]["explicit_http_config"] =
            json!({"http2_protocol_options": {}});
    })
}

async fn wait_for_failures(envoy: &Envoy, least: u64) -> Result<u64> {
    wait_for_figure_at_least(envoy, "failed_attempts_total", "unknown", least).await
}

/// 500 GETs, of which the bad backend spoils some; none of the clients may notice.
async fn spare_the_clients(how: &str, envoy: &Envoy, bad: &Upstream) -> Result<()> {
    let order = answered_by(&mut envoy.client(), 500).await?;
    // Fewer failures would show too little.
    let failed = wait_for_failures(envoy, 5).await?;
    println!("{how}: 500 GETs, 500 answers, {failed} attempts failed");
    // Each failed attempt opens a window.
    wait_for_figure(envoy, "events_total", "backoff_opened", failed).await?;
    ensure!(!order.iter().any(|backend| backend == bad.id()));
    Ok(())
}

#[tokio::test]
async fn refused_connections_cost_no_get() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.stop().await;
    spare_the_clients("refused connect", &envoy, &a).await
}

#[tokio::test]
async fn connections_reset_before_the_request_is_read_cost_no_get() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.set(Behaviour::ResetOnAccept);
    spare_the_clients("accept, then reset", &envoy, &a).await?;
    assert_eq!(a.hits(), 0);
    Ok(())
}

#[tokio::test]
async fn connections_reset_after_the_request_was_read_cost_no_get() -> Result<()> {
    for (how, behaviour) in [
        ("read, then reset", Behaviour::ResetOnRequest),
        ("read, then close", Behaviour::CloseOnRequest),
    ] {
        let [a, b] = backends(["a", "b"])?;
        let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
        a.set(behaviour);
        spare_the_clients(how, &envoy, &a).await?;
        let failed = u64::try_from(a.hits())?;
        wait_for_figure(&envoy, "failed_attempts_total", "unknown", failed).await?;
    }
    Ok(())
}

#[tokio::test]
async fn refused_h2_streams_cost_no_request() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let document = cluster(CLUSTER, &[&a, &b], eager());
    let envoy = Envoy::start(h2(scene::bootstrap(&document)?)).await?;
    a.set(Behaviour::RefuseStream);
    spare_the_clients("REFUSED_STREAM", &envoy, &a).await?;
    // The backend says that it has done nothing: any method may go elsewhere.
    let mut client = envoy.client();
    for nth in 0..100 {
        let response = client.send(post("/", format!("order {nth}"))).await?;
        response.ensure_from("b")?;
    }
    Ok(())
}

/// RT-9: the backend closes kept connections just when they are used again.
#[tokio::test]
async fn rt_9_a_stale_keep_alive_connection_costs_no_get() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.set(Behaviour::ResetAfter(2));
    let order = answered_by(&mut envoy.client(), 500).await?;
    let failed = wait_for_failures(&envoy, 5).await?;
    println!(
        "RT-9: every third request on a connection is reset: {:?}, {failed} failed",
        shares(&order)
    );
    ensure!(shares(&order)["a"] >= 10);
    Ok(())
}

/// RT-9: no backend keeps a connection for a second request.
#[tokio::test]
async fn rt_9_stale_keep_alive_connections_everywhere_cost_no_get() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.set(Behaviour::ResetAfter(1));
    b.set(Behaviour::ResetAfter(1));
    let order = answered_by(&mut envoy.client(), 600).await?;
    let retries = cluster_stat("upstream_rq_retry");
    let resets = envoy.wait_for_stat_at_least(&retries, 300).await?;
    println!(
        "RT-9: every reused connection is reset: {:?}, {resets} resets",
        shares(&order)
    );
    Ok(())
}

/// RT-9: what a POST may have done it must not do twice.
#[tokio::test]
async fn rt_9_a_post_is_never_replayed_after_its_bytes_were_sent() -> Result<()> {
    for behaviour in [
        Behaviour::ResetOnRequest,
        Behaviour::CloseOnRequest,
        Behaviour::ResetAfter(1),
    ] {
        let [a, b] = backends(["a", "b"])?;
        let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
        a.set(behaviour.clone());
        let (good, bad) = send_posts(&mut envoy.client(), 200).await?;
        let mut bodies: Vec<Vec<u8>> = [&a, &b]
            .iter()
            .flat_map(|u| u.requests())
            .map(|request| request.body)
            .collect();
        bodies.sort();
        let arrived = bodies.len();
        bodies.dedup();
        println!(
            "RT-9, {behaviour:?}: 200 POSTs: {good} answered, {bad} failed, {arrived} arrived"
        );
        ensure!(bad > 0, "no POST was cut off");
        assert_eq!((arrived, bodies.len()), (200, 200), "each exactly once");
    }
    Ok(())
}

/// RT-9: a refused connection has seen nothing of the POST, so it is tried elsewhere.
#[tokio::test]
async fn rt_9_a_post_is_retried_when_the_connection_is_refused() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.stop().await;
    let (good, bad) = send_posts(&mut envoy.client(), 500).await?;
    let failed = wait_for_failures(&envoy, 5).await?;
    println!("RT-9: 500 POSTs, {failed} connections refused, {bad} errors");
    assert_eq!((good, b.hits()), (500, 500));
    Ok(())
}

/// POSTs with distinct bodies: how many were answered by a backend, how many failed.
async fn send_posts(client: &mut Client, count: usize) -> Result<(usize, usize)> {
    let mut good = 0;
    for nth in 0..count {
        let response = client.send(post("/", format!("order {nth}"))).await?;
        ensure!(
            matches!(response.status.as_u16(), 200 | 503),
            "{}",
            response.status
        );
        if response.status == 503 {
            println!("POST {nth}: {}", response.text());
        }
        good += usize::from(response.status == 200);
    }
    Ok((good, count - good))
}

/// RT-10: an answer is an answer; a status says nothing of the way to the backend.
#[tokio::test]
async fn rt_10_a_backend_that_answers_500_keeps_its_share() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], eager())).await?;
    a.set(Behaviour::status(500));
    let mut client = envoy.client();
    for _ in 0..200 {
        client.get("/").await?;
    }
    let failed = figure(&envoy, "failed_attempts_total", "unknown").await?;
    println!(
        "RT-10: a answers 500: a {}, b {}, failed attempts {failed}",
        a.hits(),
        b.hits()
    );
    assert_eq!((a.hits(), b.hits(), failed), (100, 100, 0));
    Ok(())
}
