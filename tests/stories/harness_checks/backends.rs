//! Backends, seen without an Envoy between.

use std::cell::Cell;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::client::{get, post};
use harness::port::Port;
use harness::upstream::HEALTH_PATH;
use harness::websocket::WebSocket;
use harness::{Behaviour, Client, Load, SOON, Upstream, eventually, grpc, raw, throughout};
use tokio::net::TcpStream;

fn backend() -> Result<(Upstream, Client)> {
    let upstream = Upstream::new("one")?;
    let client = Client::new(upstream.address());
    Ok((upstream, client))
}

#[tokio::test]
async fn a_backend_says_who_it_is_and_records_what_came() -> Result<()> {
    let (upstream, mut client) = backend()?;
    let mut request = post("/orders?x=1", "body");
    request.headers_mut().insert("x-user", "anna".parse()?);
    let response = client.send(request).await?;
    assert_eq!(
        (response.status.as_u16(), response.backend()),
        (200, Some("one"))
    );
    assert_eq!(response.json()?["path"], "/orders?x=1");
    client.get("/again").await?;
    client.get(HEALTH_PATH).await?;

    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].path.as_str(), seen[0].body.as_slice()),
        ("/orders?x=1", &b"body"[..])
    );
    assert_eq!(seen[0].header("x-user"), Some("anna"));
    assert_eq!((seen[1].connection, seen[1].nth), (seen[0].connection, 1));
    assert_eq!((upstream.probes().len(), upstream.accepted().len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn bytes_of_header_values_arrive_as_they_were_sent() -> Result<()> {
    let (upstream, _) = backend()?;
    let response = raw::get(upstream.address(), "/", &[b"x-bin: \xff\xfe"]).await?;
    assert_eq!(response.status, 200);
    assert_eq!(
        upstream.requests()[0].headers["x-bin"].as_bytes(),
        b"\xff\xfe"
    );
    Ok(())
}

#[tokio::test]
async fn refused_connections_end_when_it_starts_again_on_the_same_port() -> Result<()> {
    let (upstream, mut client) = backend()?;
    client.get("/").await?;
    upstream.refuse().await;
    client.get("/on-the-open-connection").await?;
    let refused = Client::new(upstream.address()).get("/").await;
    ensure!(refused.is_err(), "answered: {refused:?}");

    upstream.stop().await;
    let dead = client.get("/").await;
    ensure!(dead.is_err(), "answered: {dead:?}");
    assert_eq!(upstream.accepted().len(), 1);

    upstream.start()?;
    client.get("/back").await?;
    assert_eq!(upstream.accepted().len(), 2);
    Ok(())
}

/// As of a program that is being started: it has all our sockets until it is loaded.
#[tokio::test]
async fn a_listener_that_is_gone_refuses_even_while_somebody_has_a_copy_of_it() -> Result<()> {
    let port = Port::reserve()?;
    let listener = port.listen()?;
    let copy = listener.as_fd().try_clone_to_owned()?;
    TcpStream::connect(port.address()).await?;
    drop(listener);
    let refused = TcpStream::connect(port.address()).await;
    let kind = refused.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::ConnectionRefused));
    let again = port.listen()?;
    TcpStream::connect(port.address()).await?;
    drop((again, copy));
    Ok(())
}

#[tokio::test]
async fn resets_come_before_the_read_after_it_or_on_a_reused_connection() -> Result<()> {
    let (upstream, mut client) = backend()?;
    upstream.set(Behaviour::ResetOnAccept);
    ensure!(client.get("/").await.is_err());
    assert_eq!((upstream.accepted().len(), upstream.hits()), (1, 0));

    upstream.set(Behaviour::ResetOnRequest);
    let error = client.send(post("/", "lost")).await.expect_err("it resets");
    let reset = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(
        reset.map(std::io::Error::kind).last(),
        Some(ErrorKind::ConnectionReset),
        "{error:#}"
    );
    assert_eq!(upstream.requests()[0].body, b"lost");

    upstream.set(Behaviour::ResetAfter(1));
    client.get("/first").await?;
    ensure!(client.get("/second").await.is_err());
    client.get("/first-again").await?;

    upstream.set(Behaviour::CloseOnRequest);
    ensure!(Client::new(upstream.address()).get("/").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_held_request_waits_for_the_next_behaviour() -> Result<()> {
    let (upstream, mut client) = backend()?;
    upstream.set(Behaviour::Hold);
    let release = async {
        eventually(SOON, "a request in flight", async || {
            ensure!(
                upstream.in_flight() == 1,
                "{} in flight",
                upstream.in_flight()
            );
            Ok(())
        })
        .await?;
        upstream.set(Behaviour::status(418));
        anyhow::Ok(())
    };
    let (response, released) = tokio::join!(client.get("/"), release);
    released?;
    assert_eq!((response?.status.as_u16(), upstream.in_flight()), (418, 0));
    Ok(())
}

#[tokio::test]
async fn the_health_path_has_a_behaviour_of_its_own() -> Result<()> {
    let (upstream, mut client) = backend()?;
    upstream.set_health(Behaviour::Answer {
        status: 503,
        headers: vec![("retry-after", "7".to_owned())],
    });
    let probe = client.get(HEALTH_PATH).await?;
    assert_eq!(
        (probe.status.as_u16(), probe.header("retry-after")),
        (503, Some("7"))
    );
    assert_eq!(client.get("/").await?.status, 200);

    upstream.set_health(Behaviour::Slow(Duration::from_millis(50)));
    let start = Instant::now();
    assert_eq!(client.get(HEALTH_PATH).await?.status, 200);
    ensure!(
        start.elapsed() >= Duration::from_millis(50),
        "after {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn retired_connections_answer_first() -> Result<()> {
    let (upstream, mut client) = backend()?;
    upstream.set(Behaviour::GoAway);
    client.get("/").await?;
    client.get("/").await?;
    assert_eq!(upstream.accepted().len(), 2);
    // Over h2 too: the answer comes, and the client library takes the GOAWAY for what it is.
    let reply = grpc::call(upstream.address(), "/a.B/C", b"hello").await?;
    assert_eq!(reply.grpc_status, Some(0));
    Ok(())
}

#[tokio::test]
async fn it_speaks_grpc_over_h2() -> Result<()> {
    let (upstream, _) = backend()?;
    let reply = grpc::call(upstream.address(), "/a.B/C", b"hello").await?;
    assert_eq!(
        (reply.grpc_status, &*reply.message),
        (Some(0), &b"hello"[..])
    );
    assert_eq!(upstream.requests()[0].path, "/a.B/C");

    upstream.set(Behaviour::GrpcStatus(14));
    assert_eq!(
        grpc::call(upstream.address(), "/a.B/C", b"")
            .await?
            .grpc_status,
        Some(14)
    );

    upstream.set(Behaviour::RefuseStream);
    let error = grpc::call(upstream.address(), "/a.B/C", b"")
        .await
        .expect_err("refused");
    let reason = error
        .downcast_ref::<h2::Error>()
        .and_then(h2::Error::reason);
    assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn a_websocket_is_in_flight_until_it_ends() -> Result<()> {
    let (upstream, _) = backend()?;
    let mut socket = WebSocket::open(upstream.address(), "/chat").await?;
    assert_eq!(socket.echo("hello").await?, "hello");
    assert_eq!(upstream.in_flight(), 1);
    upstream.stop().await;
    ensure!(socket.echo("gone").await.is_err());
    assert_eq!(upstream.in_flight(), 0);
    Ok(())
}

#[tokio::test]
async fn a_load_counts_answers_and_failures() -> Result<()> {
    let (upstream, _) = backend()?;
    let load = Load::new(upstream.address(), 300)
        .connections(3)
        .path("/load")
        .start();
    load.reach(100, SOON).await?;
    upstream.set(Behaviour::status(500));
    let tally = load.finish().await?;
    assert_eq!((tally.sent(), upstream.hits()), (300, 300));
    assert_eq!(tally.statuses[&200] + tally.statuses[&500], 300);
    assert_eq!(
        (tally.failed(), tally.unanswered),
        (tally.statuses[&500], 0)
    );
    assert_eq!(tally.by("one"), 300);
    ensure!(tally.ensure_clean().is_err());

    upstream.stop().await;
    let tally = Load::new(upstream.address(), 10).run().await?;
    assert_eq!((tally.unanswered, tally.failed()), (10, 10));
    Ok(())
}

#[tokio::test]
async fn a_wait_that_fails_says_what_it_saw_last() -> Result<()> {
    let mut looks = 0;
    let error = eventually(
        Duration::from_millis(20),
        "the moon",
        async || -> Result<()> {
            looks += 1;
            anyhow::bail!("look {looks}")
        },
    )
    .await
    .expect_err("it never comes");
    let text = format!("{error:#}");
    ensure!(
        text.contains("the moon") && text.contains("look "),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn what_must_hold_is_looked_at_until_enough_has_happened_and_after_it() -> Result<()> {
    let broken_from = async |break_at: u32| {
        let looks = Cell::new(0);
        let third = async || {
            looks.set(looks.get() + 1);
            ensure!(looks.get() >= 3, "look {}", looks.get());
            Ok(())
        };
        throughout(SOON, "the third look", third, async || {
            ensure!(looks.get() < break_at, "broken at look {}", looks.get());
            Ok(())
        })
        .await
        .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(broken_from(4).await, Ok(()));
    for break_at in [2, 3] {
        let error = broken_from(break_at).await.expect_err("it breaks");
        assert_eq!(
            error,
            format!("before the third look: broken at look {break_at}")
        );
    }
    Ok(())
}

#[tokio::test]
async fn requests_can_name_their_own_host() -> Result<()> {
    let (upstream, mut client) = backend()?;
    let mut request = get("/");
    request
        .headers_mut()
        .insert("host", "shop.example".parse()?);
    client.send(request).await?;
    assert_eq!(upstream.requests()[0].header("host"), Some("shop.example"));
    Ok(())
}
