//! Bodies over HTTP/2: a window bounds what comes, and trailers may end it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::{Behaviour, Bootstrap, Envoy, Upstream};
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bodies::{LIMIT, TRIES, tight};
use super::{batch, document};
use crate::scene::{SOON, backends, bootstrap};

const JSON: &str = "application/json";

/// RL-5: over HTTP/2 a window is all that Envoy holds.
#[tokio::test]
async fn rl_5_over_http_2_a_window_is_the_limit() -> Result<()> {
    let [a] = backends(["a"])?;
    let document = document(&[&a], json!({"maxBodyBytes": LIMIT}));
    let envoy = Envoy::start(tight(&document)?).await?;
    for _ in 0..TRIES {
        for (length, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
            let answer = send(&envoy, JSON, super::body_of(length), None).await?;
            ensure!(answer == status, "{length} bytes: {answer}");
        }
        // What is picked early is read on, however long it is.
        let long = format!(r#"{{"method":"a","params":"{}"}}"#, "x".repeat(LIMIT * 4));
        a.forget();
        let answer = send(&envoy, JSON, long.clone(), None).await?;
        ensure!(answer == 200, "{answer}");
        let received = a.requests().pop().context("no request")?.body;
        ensure!(received == long.as_bytes(), "another body");
    }
    Ok(())
}

/// The status of a POST over HTTP/2, on a connection of its own, whose body says no length; an empty one is
/// no frame at all.
async fn send(
    envoy: &Envoy,
    content_type: &str,
    body: impl Into<Bytes>,
    trailers: Option<HeaderMap>,
) -> Result<u16> {
    let body = body.into();
    let exchange = async {
        let stream = TcpStream::connect(envoy.address()).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::post("http://story/")
            .header("content-type", content_type)
            .body(())?;
        let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
        if !body.is_empty() {
            // The library waits for the window by itself.
            sending.send_data(body, trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            sending.send_trailers(trailers)?;
        }
        Ok(response.await?.status().as_u16())
    };
    timeout(SOON, exchange).await.context("no answer in time")?
}

/// Backends to which Envoy speaks HTTP/2, so that trailers reach them.
fn bootstrap_over_http_2(document: &Value) -> Result<Bootstrap> {
    Ok(bootstrap(document)?.edit(|root| {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let cluster = &mut root["static_resources"]["clusters"][0];
        cluster["typed_extension_protocol_options"][options]["explicit_http_config"] =
            json!({"http2_protocol_options": {}});
    }))
}

fn trailers() -> HeaderMap {
    let fields = [
        ("x-sum", HeaderValue::from_static("1")),
        ("grpc-like", HeaderValue::from_static("2")),
    ];
    fields
        .map(|(name, value)| (name.parse().expect("a name"), value))
        .into_iter()
        .collect()
}

/// Checks that a backend has had one request, with this body and the trailers behind it.
fn ensure_whole(backend: &Upstream, body: &[u8]) -> Result<()> {
    let [received] = &backend.requests()[..] else {
        anyhow::bail!("{} requests", backend.hits());
    };
    ensure!(received.body == body, "another body");
    ensure!(received.trailers == trailers(), "{:?}", received.trailers);
    Ok(())
}

/// RL-5 and RL-6: trailers may be what ends a request that is held, with a body or without one; a backend
/// gets them behind the body, whole, and so does the next one when that refuses.
#[tokio::test]
async fn rl_6_trailers_end_a_held_body_and_follow_it_to_one_backend() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    for rules in [json!({}), json!({"errors": "Map"})] {
        let mut document = document(&[&a], rules);
        document["backoff"] = json!({"base": "10ms", "max": "10ms"});
        let spare = harness::registry::backup(&b);
        document["backends"]
            .as_array_mut()
            .context("no backends")?
            .push(spare);
        let envoy = Envoy::start(bootstrap_over_http_2(&document)?).await?;
        let long = format!(r#"{{"params":"{}","method":"a"}}"#, "x".repeat(200_000));
        let bodies: [&str; 4] = [&long, r#"{"method":"a"}"#, "{}", &batch(3)];
        let mut tried = 0;
        for (fault, serves) in [(Behaviour::Ok, &a), (Behaviour::RefuseStream, &b)] {
            a.set(fault);
            for body in bodies {
                let status = send(&envoy, JSON, body.to_owned(), Some(trailers())).await?;
                ensure!(status == 200, "{status} for {} bytes", body.len());
                ensure_whole(serves, body.as_bytes())?;
                tried += a.hits();
                a.forget();
                b.forget();
            }
        }
        ensure!(tried > bodies.len(), "nobody was refused");
        a.set(Behaviour::Ok);
        for body in ["", " ", r#"{"method":"#, "[1"] {
            let status = send(&envoy, JSON, body, Some(trailers())).await?;
            ensure!(status == 400, "{body}: {status}");
        }
        ensure!(a.hits() + b.hits() == 0, "some of it was sent on");
    }
    Ok(())
}

/// What only sounds like JSON is picked at its headers: gRPC's messages are framed, and a call of none has
/// trailers alone.
#[tokio::test]
async fn calls_of_grpc_in_json_are_not_held() -> Result<()> {
    let [a] = backends(["a"])?;
    let document = document(&[&a], json!({"errors": "Map"}));
    let envoy = Envoy::start(bootstrap_over_http_2(&document)?).await?;
    for kind in ["application/grpc", "application/grpc+json"] {
        for body in [&b"\0\0\0\0\x02{}"[..], b""] {
            let status = send(&envoy, kind, body, Some(trailers())).await?;
            ensure!(status == 200, "{kind}: {status}");
            ensure_whole(&a, body)?;
            a.forget();
        }
    }
    Ok(())
}
