//! Streams that are no plain request and answer: websockets, gRPC, and clients that leave.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::websocket::WebSocket;
use harness::{Behaviour, Envoy, Upstream, eventually, grpc, raw};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::retries::failover::h2;
use crate::scene::{
    self, CLUSTER, Requests, SOON, answered_by, backends, figure, in_flight, serve, shares,
    wait_for_connections, wait_for_figure, wait_for_figure_at_least,
};

const METHOD: &str = "/story.Echo/Unary";

fn balanced(policy: &str) -> Value {
    json!({"loadBalancing": {"policy": policy}, "backoff": {"base": "10ms", "max": "10ms"}})
}

#[tokio::test]
async fn a_websocket_fails_over_to_a_backend_that_answers() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], balanced("RoundRobin"))).await?;
    a.stop().await;
    let mut sockets = Vec::new();
    let failed = eventually(SOON, "three sockets whose pick refused", async || {
        let mut socket = WebSocket::open(envoy.address(), "/chat").await?;
        assert_eq!(socket.echo("hello").await?, "hello");
        sockets.push(socket);
        let failed = figure(&envoy, "failed_attempts_total", "unknown").await?;
        ensure!(failed >= 3, "{failed}");
        Ok(failed)
    })
    .await?;
    for socket in &mut sockets {
        assert_eq!(socket.echo("still there?").await?, "still there?");
    }
    println!(
        "{} websockets, {failed} of them after a refused connection: all echo",
        sockets.len()
    );
    assert_eq!(b.in_flight(), sockets.len());
    Ok(())
}

#[tokio::test]
async fn grpc_calls_pass_and_fail_over() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let document = cluster(CLUSTER, &[&a, &b], balanced("RoundRobin"));
    let envoy = Envoy::start(h2(scene::bootstrap(&document)?)).await?;
    let call = async |message: &'static [u8]| {
        let reply = grpc::call(envoy.address(), METHOD, message).await?;
        let backend = reply
            .headers
            .get("x-backend")
            .and_then(|id| id.to_str().ok());
        ensure!(
            reply.grpc_status == Some(0) && reply.message == message,
            "{reply:?}"
        );
        Ok(backend.unwrap_or_default().to_owned())
    };
    let mut order = Vec::new();
    for _ in 0..20 {
        order.push(call(b"message").await?);
    }
    assert_eq!(shares(&order), [("a", 10), ("b", 10)].into());
    a.stop().await;
    wait_for_connections(&envoy, 1).await?;
    for _ in 0..50 {
        assert_eq!(call(b"another").await?, "b");
    }
    let failed = "failed_attempts_total";
    let failed = wait_for_figure_at_least(&envoy, failed, "unknown", 1).await?;
    println!(
        "gRPC: {:?}; then a refuses: 50 of 50 calls served, {failed} failed over",
        shares(&order)
    );
    Ok(())
}

/// The backend's own status 14 is an answer; Envoy's, for backends that refuse, tells of failures.
#[tokio::test]
async fn grpc_status_14_opens_back_offs_only_where_nobody_answered() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "30s", "max": "30s"},
    });
    let document = cluster(CLUSTER, &[&a, &b], settings);
    let envoy = Envoy::start(h2(scene::bootstrap(&document)?)).await?;
    a.set(Behaviour::GrpcStatus(14));
    for _ in 0..20 {
        grpc::call(envoy.address(), METHOD, b"message").await?;
    }
    let opened = figure(&envoy, "events_total", "backoff_opened").await?;
    assert_eq!(
        (a.hits(), b.hits(), opened),
        (10, 10, 0),
        "the backend's own"
    );

    a.stop().await;
    b.stop().await;
    wait_for_connections(&envoy, 0).await?;
    let nobody = grpc::call(envoy.address(), METHOD, b"message").await?;
    wait_for_figure(&envoy, "events_total", "backoff_opened", 2).await?;
    let refused = grpc::call(envoy.address(), METHOD, b"message").await?;
    wait_for_figure(&envoy, "refusals_total", "all_backing_off", 1).await?;
    for answer in [nobody, refused] {
        println!(
            "gRPC, all refuse: {} {:?}",
            answer.status, answer.grpc_status
        );
        assert_eq!(
            (answer.status.as_u16(), answer.grpc_status),
            (200, Some(14))
        );
        ensure!(answer.headers.contains_key("grpc-status"), "trailers only");
    }
    Ok(())
}

/// ST-1: one backend refuses, the next says 100 and 103 before it answers: interim answers name nobody,
/// the final one who served. Whoever is gone after an interim answer has served nobody, and Envoy asks
/// no other.
#[tokio::test]
async fn st_1_interim_answers_name_nobody_and_the_final_one_who_served() -> Result<()> {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\n";
    let full = format!("{early}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let [refuses] = backends(["refuses"])?;
    refuses.stop().await;
    for (answer, status, named) in [(full.as_str(), 200, 1), (early, 503, 0)] {
        let server = Scripted::start(answer).await?;
        let mut document = cluster(CLUSTER, &[&refuses], json!({"sticky": {"cookie": "P"}}));
        let second = json!({
            "id": "second", "address": server.address.to_string(), "backup": true,
        });
        let backends = document["backends"].as_array_mut();
        backends.context("no backends")?.push(second);
        let envoy = serve(&document).await?;
        let answer = raw::get(envoy.address(), "/", &[]).await?;
        let text = answer.text();
        println!("ST-1, interim answers behind a refusal: {text:?}");
        ensure!(text.contains(&format!("HTTP/1.1 {status}")));
        ensure!(text.matches("set-cookie").count() == named);
        ensure!(text.matches("set-cookie: P=second;").count() == named);
    }
    Ok(())
}

/// A backend that answers whatever it reads with the same bytes, and closes.
struct Scripted {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Scripted {
    async fn start(answer: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, answer) = (listener.local_addr()?, answer.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // Whoever left meanwhile needs no answer.
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Scripted {
            address,
            _task: task,
        })
    }
}

/// Opens six streams, three on each of two backends, closes b's and sees everybody go to b; then
/// closes a's and sees a picked again: nothing of them is left in the counts.
async fn ensure_no_leak<T>(
    what: &str,
    held: bool,
    open: impl AsyncFn(SocketAddr) -> Result<T>,
) -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let least = json!({"loadBalancing": {"policy": "LeastLoaded"}});
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], least)).await?;
    for backend in [&a, &b] {
        backend.set(if held { Behaviour::Hold } else { Behaviour::Ok });
    }
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    for count in 1..=6 {
        let before = a.in_flight();
        let stream = open(envoy.address()).await?;
        let after = in_flight(&[&a, &b], count).await?[0];
        if after > before { &mut at_a } else { &mut at_b }.push(stream);
    }
    assert_eq!(
        (at_a.len(), at_b.len()),
        (3, 3),
        "{what}: the counts hold while they last"
    );
    drop(at_b);
    in_flight(&[&a, &b], 3).await?;
    b.set(Behaviour::Ok);
    let mut client = envoy.client();
    eventually(SOON, "b's to be forgotten, and not a's", async || {
        let order = answered_by(&mut client, 20).await?;
        ensure!(shares(&order) == [("b", 20)].into(), "{:?}", shares(&order));
        Ok(())
    })
    .await?;
    drop(at_a);
    in_flight(&[&a, &b], 0).await?;
    a.set(Behaviour::Ok);
    let order = eventually(SOON, "a's to be forgotten", async || {
        let order = answered_by(&mut client, 60).await?;
        ensure!(
            shares(&order).values().all(|share| *share >= 10),
            "{:?}",
            shares(&order)
        );
        Ok(order)
    })
    .await?;
    println!(
        "{what}: three at a: 20 of 20 GETs to b; closed: {:?}",
        shares(&order)
    );
    ensure!(shares(&order).len() == 2);
    Ok(())
}

#[tokio::test]
async fn in_flight_does_not_leak_over_websockets() -> Result<()> {
    ensure_no_leak("websockets", false, async |to| {
        WebSocket::open(to, "/chat").await
    })
    .await
}

#[tokio::test]
async fn in_flight_does_not_leak_when_clients_leave_before_the_answer() -> Result<()> {
    ensure_no_leak("aborted before the answer", true, async |to| {
        Ok(Requests::send(to, 1))
    })
    .await
}

#[tokio::test]
async fn in_flight_does_not_leak_when_clients_leave_amid_their_request() -> Result<()> {
    ensure_no_leak("aborted amid the request", false, async |to| {
        let mut client = TcpStream::connect(to).await?;
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: story\r\ncontent-length: 100\r\n\r\nten bytes.")
            .await?;
        Ok(client)
    })
    .await
}

/// A stream counts where it is served, not where it was picked to go.
#[tokio::test]
async fn in_flight_moves_to_the_backend_that_serves() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], balanced("LeastLoaded"))).await?;
    a.stop().await;
    let socket = eventually(SOON, "a socket whose pick refused", async || {
        let before = figure(&envoy, "failed_attempts_total", "unknown").await?;
        let socket = WebSocket::open(envoy.address(), "/chat").await?;
        let after = figure(&envoy, "failed_attempts_total", "unknown").await?;
        ensure!(after > before, "b was picked first");
        Ok(socket)
    })
    .await?;
    a.start()?;
    in_flight(&[&a, &b], 1).await?;
    let mut client = envoy.client();
    eventually(
        SOON,
        "all to go to the backend without the socket",
        async || {
            let order = answered_by(&mut client, 20).await?;
            ensure!(shares(&order) == [("a", 20)].into(), "{:?}", shares(&order));
            Ok(())
        },
    )
    .await?;
    println!("a websocket that was to go to a and is served by b counts at b: 20 of 20 GETs to a");
    drop(socket);
    served_again(&b, &mut client).await
}

async fn served_again(backend: &Upstream, client: &mut harness::Client) -> Result<()> {
    let hits = backend.hits();
    eventually(SOON, "the socket to be forgotten", async || {
        answered_by(client, 5).await?;
        ensure!(backend.hits() > hits, "not picked");
        Ok(())
    })
    .await
}
