//! Statuses, resets and timeouts count for the back-off where the document says so (RT-11).

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Envoy, grpc};
use serde_json::json;

use super::failover::h2;
use crate::scene::{CLUSTER, answered_by, backends, bootstrap, serve, wait_for_figure};

pub const METHOD: &str = "/shop.Orders/Place";

/// The second of two that fail stays: so little holds back a half, and never the last.
#[tokio::test]
async fn rt_11_statuses_hold_a_backend_back_where_the_document_counts_them() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "1h", "max": "1h"},
        "passive": {"failures": ["ConnectFailure", "ServerError"], "consecutive": 2},
    });
    let envoy = serve(&cluster(CLUSTER, &[&a, &b, &c], settings)).await?;
    let mut client = envoy.client();
    a.set(Behaviour::status(500));
    for _ in 0..6 {
        client.get("/").await?;
    }
    wait_for_figure(&envoy, "failed_attempts_total", "status", 2).await?;
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
    let order = answered_by(&mut client, 30).await?;
    ensure!(!order.iter().any(|id| id == "a"), "{order:?}");
    b.set(Behaviour::status(500));
    for _ in 0..20 {
        client.get("/").await?;
    }
    println!(
        "three failures of {} at a, then {} at b, which stays",
        a.hits(),
        b.hits()
    );
    ensure!(b.hits() >= 15, "half of a tier and no more: {}", b.hits());
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await
}

/// A gRPC answer of trailers only is HTTP 200: its own status is what is retried and counts, whichever
/// role of the module sees it.
#[tokio::test]
async fn rt_11_grpc_statuses_are_retried_and_count() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "http2": true,
        "loadBalancing": {"policy": "RoundRobin"},
        "retry": {"on": ["grpc:14"]},
        "backoff": {"base": "1h", "max": "1h"},
        "passive": {"failures": ["grpc:14"], "cooldown": {"statuses": ["grpc:8"], "base": "1h", "max": "1h"}},
    });
    let bootstrap = bootstrap(&cluster(CLUSTER, &[&a, &b], settings))?;
    let envoy = Envoy::start(h2(bootstrap)).await?;
    a.set(Behaviour::GrpcStatus(14));
    for _ in 0..4 {
        let reply = grpc::call(envoy.address(), METHOD, b"one").await?;
        ensure!(reply.grpc_status == Some(0), "{reply:?}");
    }
    wait_for_figure(&envoy, "failed_attempts_total", "status", 1).await?;
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
    ensure!(a.hits() == 1, "{} calls of it", a.hits());
    // The last of them is not held back by a status, but it is by a cooldown.
    b.set(Behaviour::GrpcStatus(14));
    for _ in 0..2 {
        let reply = grpc::call(envoy.address(), METHOD, b"one").await?;
        ensure!(reply.grpc_status == Some(14), "{reply:?}");
    }
    b.set(Behaviour::GrpcStatus(8));
    let reply = grpc::call(envoy.address(), METHOD, b"one").await?;
    ensure!(reply.grpc_status == Some(8), "{reply:?}");
    wait_for_figure(&envoy, "cooldowns_total", "status", 1).await?;
    let event = envoy
        .events()
        .into_iter()
        .find(|it| it.name() == "cooldown_started");
    let event = event.context("no event")?;
    ensure!(event.field("status") == "grpc:8", "{event:?}");
    Ok(())
}
