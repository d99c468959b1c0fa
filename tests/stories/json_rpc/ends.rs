//! How a body ends, or does not: trailers, upgrades, a client that waits or leaves, a configuration that
//! changes meanwhile, an Envoy that hands nothing over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Envoy, eventually, raw};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{PAUSE, Way, ask, document, send};
use crate::fleet::scene::Scene;
use crate::scene::{CLUSTER, SOON, backends, bootstrap, figure, serve, wait_for_figure};

const JSON: &str = "host: story\r\nconnection: close\r\ncontent-type: application/json\r\n";

/// A body may end with trailers; then no callback of the body's says so.
#[tokio::test]
async fn a_body_ends_with_trailers_too() -> Result<()> {
    let [a] = backends(["a"])?;
    // A request without an id is read to its end.
    let mut bootstrap = bootstrap(&document(&[&a], json!({"errors": "Map"})))?;
    let manager = bootstrap.manager_mut()?;
    manager["http_protocol_options"] = json!({"enable_trailers": true});
    let envoy = Envoy::start(bootstrap).await?;
    for (body, status) in [
        (r#"{"method":"a"}"#, 200),
        (r#"{"method":"a""#, 400),
        ("", 400),
    ] {
        let chunk = match body {
            "" => String::new(),
            body => format!("{:x}\r\n{body}\r\n", body.len()),
        };
        let request = format!(
            "POST / HTTP/1.1\r\n{JSON}transfer-encoding: chunked\r\n\r\n{chunk}0\r\nx-sum: 1\r\n\r\n"
        );
        let (head, end) = request.split_at(request.len() - 20);
        let parts = [head.as_bytes(), end.as_bytes()];
        for pause in [Duration::ZERO, PAUSE] {
            let answer = raw::exchange_slowly(envoy.address(), &parts, pause).await?;
            ensure!(answer.status == status, "{body}: {}", answer.text());
        }
    }
    Ok(())
}

/// Who becomes another protocol, or has no body, is picked at the headers.
#[tokio::test]
async fn requests_without_a_body_to_read_do_not_wait_for_one() -> Result<()> {
    let [a] = backends(["a"])?;
    let envoy = serve(&document(&[&a], json!({}))).await?;
    for (head, status) in [
        ("GET / HTTP/1.1\r\n", 200),
        ("POST / HTTP/1.1\r\ncontent-length: 0\r\n", 200),
        ("DELETE / HTTP/1.1\r\n", 200),
    ] {
        let request = format!("{head}{JSON}\r\n");
        let answer = raw::exchange(envoy.address(), request.as_bytes()).await?;
        ensure!(answer.status == status, "{head}: {}", answer.text());
    }
    let mut socket = harness::websocket::WebSocket::open(envoy.address(), "/socket").await?;
    ensure!(socket.echo("here").await? == "here");
    // Of a POST that asks for another protocol nothing is waited for either.
    let upgrade = "POST /socket HTTP/1.1\r\nhost: story\r\ncontent-type: application/json\r\n\
                   connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = TcpStream::connect(envoy.address()).await?;
    stream.write_all(upgrade.as_bytes()).await?;
    eventually(SOON, "the upgrade to be sent on", async || {
        let asked = a
            .requests()
            .iter()
            .any(|it| it.method == "POST" && it.path == "/socket");
        ensure!(asked, "not yet");
        Ok(())
    })
    .await
}

/// A client that waits to be told to go on is told so, by Envoy itself.
#[tokio::test]
async fn a_client_that_expects_to_be_asked_is_asked() -> Result<()> {
    let [a] = backends(["a"])?;
    let envoy = serve(&document(&[&a], json!({}))).await?;
    let body = r#"{"method":"a"}"#;
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\n{JSON}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    let parts = [head.as_bytes(), body.as_bytes()];
    let answer = raw::exchange_slowly(envoy.address(), &parts, PAUSE * 4).await?;
    let text = answer.text();
    ensure!(answer.status == 100 && text.contains(" 200 OK"), "{text}");
    Ok(())
}

/// Invariant 7: clients that leave in the middle of their bodies leave nothing behind.
#[tokio::test]
async fn invariant_7_clients_that_leave_in_the_middle_leave_nothing() -> Result<()> {
    const CLIENTS: usize = 1000;
    const ROUNDS: usize = 3;
    let [a] = backends(["a"])?;
    let envoy = serve(&document(&[&a], json!({}))).await?;
    let mut sizes = Vec::new();
    for round in 1..=ROUNDS {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let to = envoy.address();
            clients.spawn(async move {
                let mut stream = TcpStream::connect(to).await?;
                let head = format!("POST / HTTP/1.1\r\n{JSON}content-length: 100000\r\n\r\n[");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&[b' '; 30_000]).await?;
                anyhow::Ok(())
            });
            if clients.len() >= 50 {
                clients.join_next().await.context("no client")???;
            }
        }
        clients
            .join_all()
            .await
            .into_iter()
            .collect::<Result<Vec<()>>>()?;
        let gone = (round * CLIENTS) as u64;
        let ended = "http.ingress.downstream_cx_destroy";
        envoy.wait_for_stat_at_least(ended, gone).await?;
        let memory: Value = serde_json::from_str(&envoy.admin_get("/memory").await?)?;
        let allocated = memory["allocated"].as_str().context("no figure")?;
        sizes.push((allocated.parse::<u64>()?, envoy.process().resident()?));
    }
    // What the allocator keeps for later is resident, too.
    println!("allocated and resident after each {CLIENTS} clients: {sizes:?}");
    let grown = sizes[ROUNDS - 1].0.saturating_sub(sizes[0].0);
    ensure!(grown < 2_000_000, "{sizes:?}");
    ensure!(a.hits() == 0);
    let mut client = envoy.client();
    ask(&mut client, r#"{"method":"a"}"#)
        .await?
        .ensure_from("a")
}

/// A request that waits while the configuration changes is decided all the same.
#[tokio::test]
async fn a_configuration_may_change_while_a_body_comes() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(vec![document(&[&a], json!({}))]).await?;
    scene.wait_for_figure("picks_total", "spill", 0).await?;
    let mut clients = scene.clients().await?;
    let body = r#"{"method":"a"}"#;
    for round in 0..3 {
        let mut stream = TcpStream::connect(scene.envoy.address()).await?;
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\n{JSON}content-length: {length}\r\n\r\n{{\"me");
        stream.write_all(head.as_bytes()).await?;
        scene
            .edit(|registry| {
                registry.edit(CLUSTER, |orders| {
                    orders["jsonRpc"]["maxBatch"] = json!(10 + round);
                    orders["backends"] = json!([
                        harness::registry::backend(&a),
                        harness::registry::backend(&b),
                    ]);
                })
            })
            .await?;
        stream.write_all(&body.as_bytes()[4..]).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(
            SOON,
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer),
        )
        .await
        .context("no answer in time")??;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{round}: {answer}");
        ask(&mut clients[0], body).await?;
    }
    scene.ensure_sane().await
}

/// Where Envoy is not told to hand bodies over, that is counted and said, and the request is timed out.
#[tokio::test]
async fn where_no_body_is_handed_over_that_is_said() -> Result<()> {
    let [a] = backends(["a"])?;
    let mut bootstrap = bootstrap(&document(&[&a], json!({})))?;
    bootstrap.manager_mut()?["stream_idle_timeout"] = json!("1s");
    let filter = bootstrap.filter_mut("pointsman")?;
    let config = filter["typed_config"]["config"].as_object_mut();
    config
        .context("no config")?
        .remove("allow_on_headers_stop_iteration")
        .context("no switch")?;
    let envoy = Envoy::start(bootstrap).await?;
    for nth in 1..=2 {
        let answer = send(envoy.address(), Way::Length, br#"{"method":"a"}"#).await?;
        println!("{}", answer.text().lines().next().unwrap_or(""));
        ensure!([408, 504].contains(&answer.status), "{}", answer.text());
        wait_for_figure(&envoy, "bodies_missed_total", "", nth).await?;
    }
    let told = envoy.wait_for_events("body_missed", 1).await?;
    ensure!(told.len() == 1, "{told:?}");
    // Others do not wait.
    envoy.client().get("/").await?.ensure_from("a")?;
    ensure!(figure(&envoy, "events_total", "body_missed").await? == 1);
    Ok(())
}
