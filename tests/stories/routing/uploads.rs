//! Large uploads while a backend is gone: what Envoy still holds of a body goes to another one.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::client::post;
use harness::registry::cluster;
use harness::upstream::BlackHole;
use harness::{Client, Envoy, Response};
use serde_json::json;
use tokio::task::JoinSet;

use crate::scene::{CLUSTER, backends, serve, wait_for_figure};

/// A little less than the virtual host of the shipped bootstraps holds of a body.
const HELD: usize = 4_000_000;
const UPLOADS: usize = 24;

/// POSTs of so many bytes, all at once.
async fn upload(envoy: &Envoy, bytes: usize) -> Result<Vec<Response>> {
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        let mut client = Client::new(envoy.address());
        uploads.spawn(async move { client.send(post("/", vec![b'x'; bytes])).await });
    }
    uploads.join_all().await.into_iter().collect()
}

/// RT-9: whoever refuses has seen nothing of the body.
#[tokio::test]
async fn rt_9_a_refused_connection_costs_no_upload() -> Result<()> {
    for bytes in [2_000_000, HELD] {
        let [a, b] = backends(["a", "b"])?;
        let settings = json!({"loadBalancing": {"policy": "RoundRobin"}});
        let envoy = serve(&cluster(CLUSTER, &[&a, &b], settings)).await?;
        a.stop().await;
        let answers = upload(&envoy, bytes).await?;
        ensure!(answers.iter().all(|answer| answer.backend() == Some("b")));
        wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
        println!("RT-9: {UPLOADS} uploads of {bytes} bytes, a refuses: all served");
    }
    Ok(())
}

/// RT-8: whoever does not even refuse costs the uploads of the first second one connect timeout, and
/// nobody after them.
#[tokio::test]
async fn rt_8_a_black_hole_costs_an_upload_one_connect_timeout_at_most() -> Result<()> {
    let [b] = backends(["b"])?;
    let hole = BlackHole::open().await?;
    let document = json!({
        "name": CLUSTER,
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "30s", "max": "30s"},
        "backends": [
            {"id": "hole", "address": hole.address().to_string()},
            {"id": "b", "address": b.address().to_string()},
        ],
    });
    let envoy = serve(&document).await?;
    let start = Instant::now();
    let answers = upload(&envoy, HELD).await?;
    println!(
        "RT-8: {UPLOADS} uploads, half to a black hole: all served after {:?}",
        start.elapsed()
    );
    ensure!(answers.iter().all(|answer| answer.backend() == Some("b")));
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
    let begun = connections(&envoy, hole.address()).await?;
    let answers = upload(&envoy, HELD).await?;
    ensure!(answers.iter().all(|answer| answer.backend() == Some("b")));
    let now = connections(&envoy, hole.address()).await?;
    ensure!(begun > 0 && now == begun, "{begun} connections, then {now}");
    Ok(())
}

/// Connections that Envoy has begun to a backend.
async fn connections(envoy: &Envoy, to: SocketAddr) -> Result<u64> {
    let clusters = envoy.clusters().await?;
    let all = clusters["cluster_statuses"]
        .as_array()
        .into_iter()
        .flatten();
    let hosts = all.filter_map(|cluster| cluster["host_statuses"].as_array());
    let port = u64::from(to.port());
    let mut hosts = hosts.flatten();
    let host = hosts.find(|host| host["address"]["socket_address"]["port_value"] == port);
    let stats = host.context("no such host")?["stats"].as_array();
    let total = stats
        .into_iter()
        .flatten()
        .find(|it| it["name"] == "cx_total");
    let total = total.and_then(|it| it["value"].as_str()).unwrap_or("0");
    Ok(total.parse()?)
}
