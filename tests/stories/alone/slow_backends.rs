//! Policies that weigh measured times keep away from slow backends, and come back to them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::post;
use harness::registry::cluster;
use harness::upstream::BlackHole;
use harness::{Behaviour, Client, Envoy, Upstream, eventually, raw};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::scene::{
    CLUSTER, Requests, SOON, answered_by, backends, cluster_stat, in_flight, serve, shares,
};

fn least(metric: &str) -> Value {
    json!({"loadBalancing": {"policy": "LeastLoaded", "metric": metric}})
}

/// LB-7 and LB-9: a stalls, b gets nearly everything at once; some seconds later a is tried again.
#[tokio::test]
async fn lb_7_lb_9_a_slow_answer_moves_traffic_away_for_seconds() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], least("Latency"))).await?;
    let mut client = envoy.client();
    a.set(Behaviour::Slow(Duration::from_millis(200)));
    let order = answered_by(&mut client, 200).await?;
    let of_a = shares(&order).get("a").copied().unwrap_or_default();
    println!("LB-7, Latency: a answers after 200 ms: {of_a} of 200 GETs went to it");
    ensure!(
        (1..20).contains(&of_a),
        "a was to be measured and then avoided"
    );
    a.set(Behaviour::Ok);
    ensure_it_comes_back(&a, &mut client).await
}

/// LB-7: requests with a body count too, from their end on.
#[tokio::test]
async fn lb_7_a_slow_answer_to_posts_moves_them_away() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], least("Latency"))).await?;
    let mut client = envoy.client();
    a.set(Behaviour::Slow(Duration::from_millis(200)));
    for _ in 0..100 {
        let answer = client.send(post("/", "a body")).await?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    println!("LB-7, Latency: of 100 POSTs {} went to a", a.hits());
    ensure!(
        (1..10).contains(&a.hits()),
        "a was to be measured and then avoided"
    );
    Ok(())
}

/// LB-7: the time until a request has a connection counts, however fast the answer then is.
#[tokio::test]
async fn lb_7_a_slow_connection_moves_traffic_away() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    // One connection per backend: the second request has to wait until the first is answered.
    let single = |root: &mut Value| {
        root["static_resources"]["clusters"][0]["circuit_breakers"]["thresholds"][0]["max_connections"] =
            1.into();
    };
    let document = cluster(CLUSTER, &[&a, &b], least("ConnectionTime"));
    let envoy = Envoy::start(crate::scene::bootstrap(&document)?.edit(single)).await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let requests = Requests::send(envoy.address(), 4);
    assert_eq!(in_flight(&[&a, &b], 2).await?, [1, 1]);
    // Two requests wait for connections.
    let waiting = cluster_stat("upstream_rq_pending_active");
    envoy.wait_for_stat(&waiting, 2).await?;
    b.set(Behaviour::Ok);
    // a's second request waits for the first one's answer.
    a.set(Behaviour::Slow(Duration::from_millis(300)));
    ensure!(
        requests
            .answers()
            .await?
            .iter()
            .all(|answer| answer.status == 200)
    );
    ensure!(a.hits() == 2, "{} requests at a", a.hits());
    a.set(Behaviour::Ok);
    let order = answered_by(&mut envoy.client(), 200).await?;
    let of_a = shares(&order).get("a").copied().unwrap_or_default();
    println!("LB-7, ConnectionTime: a connection to a took 300 ms: {of_a} of 200 GETs went to it");
    ensure!(of_a < 20, "a was to be avoided");
    Ok(())
}

/// LB-7, invariant 5: the time that a client takes to send its request is no backend's.
#[tokio::test]
async fn lb_7_a_slow_upload_moves_no_traffic() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], least("Latency"))).await?;
    let mut client = envoy.client();
    answered_by(&mut client, 20).await?;
    let half =
        "POST / HTTP/1.1\r\nhost: story\r\nconnection: close\r\ncontent-length: 8\r\n\r\nhalf";
    let halves = [half.as_bytes(), b"half"];
    let pause = Duration::from_millis(1500);
    let answer = raw::exchange_slowly(envoy.address(), &halves, pause).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    // An answer after 1.5 s would be remembered for longer; a few milliseconds are not.
    eventually(Duration::from_secs(4), "both to serve", async || {
        let order = answered_by(&mut client, 20).await?;
        ensure!(shares(&order).len() == 2, "{:?}", shares(&order));
        Ok(())
    })
    .await
}

/// LB-7: no answer and no failure tells of a silent backend whose clients give up, but their wait does.
#[tokio::test]
async fn lb_7_clients_that_give_up_move_traffic_away() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let silent = serve(&cluster(CLUSTER, &[&a, &b], least("Latency"))).await?;
    a.set(Behaviour::Hold);
    let left = give_up(&silent, 200).await?;
    println!("LB-7, Latency: a is silent: {left} of 200 clients gave up after 300 ms");
    ensure!((1..10).contains(&left), "{left} clients waited for a");

    let hole = BlackHole::open().await?;
    let mut document = cluster(CLUSTER, &[&b], least("Latency"));
    let unreachable = json!({"id": "hole", "address": hole.address().to_string()});
    let backends = document["backends"].as_array_mut();
    backends.context("no backends")?.insert(0, unreachable);
    let left = give_up(&serve(&document).await?, 200).await?;
    println!("LB-7, Latency: nobody connects: {left} of 200 clients gave up after 300 ms");
    ensure!((1..10).contains(&left), "{left} clients waited for nobody");
    Ok(())
}

/// How many of `count` clients, one after the other, leave without an answer after 300 ms.
async fn give_up(envoy: &Envoy, count: usize) -> Result<usize> {
    let mut left = 0;
    for _ in 0..count {
        let mut client = envoy.client();
        match timeout(Duration::from_millis(300), client.get("/")).await {
            Ok(answer) => ensure!(answer?.status == 200),
            Err(_) => left += 1,
        }
    }
    Ok(left)
}

async fn ensure_it_comes_back(slow: &Upstream, client: &mut Client) -> Result<()> {
    let (hits, since) = (slow.hits(), Instant::now());
    eventually(SOON, "the slow backend to be tried again", async || {
        client.get("/").await.context("a GET meanwhile")?;
        ensure!(slow.hits() > hits, "no request yet");
        Ok(())
    })
    .await?;
    let after = since.elapsed();
    println!("LB-9: 200 ms are forgotten after {after:?}");
    // e^-1 per second: from 200 ms down to b's millisecond or so.
    ensure!(
        (Duration::from_secs(1)..Duration::from_secs(12)).contains(&after),
        "{after:?}"
    );
    Ok(())
}
