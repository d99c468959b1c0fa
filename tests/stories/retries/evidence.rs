//! What each attempt of a stream is evidence of, and which role of the module tells it: with the role
//! upstream, and in the same Envoy without it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Behaviour, Bootstrap, Envoy, Upstream, eventually, grpc};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::failover::h2;
use super::passive::METHOD;
use crate::scene::{CLUSTER, Requests, SOON, backends, bootstrap, figure};

/// Refused, reset, late, unknown of why; answers that cool down.
type Told = [u64; 5];
const REASONS: [&str; 4] = ["connect", "reset", "timeout", "unknown"];
const NOTHING: Told = [0; 5];
/// The cluster of shadows.
const SHADOW: &str = "shadow";

fn document(backends: &[&Upstream]) -> Value {
    let settings = json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "retry": {
            "on": ["ConnectFailure", "RefusedStream", "ResetBeforeRequest", "Reset", 429, 503],
            "perTryTimeout": "400ms",
        },
        "backoff": {"base": "1h", "max": "1h"},
        "passive": {"cooldown": {"statuses": [429, 503], "base": "1h", "max": "1h"}},
    });
    cluster(CLUSTER, backends, settings)
}

/// One way in which a request can go.
struct Way {
    name: &'static str,
    /// What the three backends do.
    behaviours: [Behaviour; 3],
    /// The first of them listens no more.
    is_dead: bool,
    /// So many GETs, one after the other, and what they are answered.
    sent: usize,
    status: u16,
    /// What is told with the role upstream, and what without.
    told: [Told; 2],
}

fn ways() -> Vec<Way> {
    use Behaviour::{Hold, Ok, ResetOnRequest};
    let status = Behaviour::status;
    let way = |name, behaviours, sent, status, told| Way {
        name,
        behaviours,
        is_dead: false,
        sent,
        status,
        told,
    };
    vec![
        way("answered", [Ok, Ok, Ok], 3, 200, [NOTHING, NOTHING]),
        Way {
            is_dead: true,
            ..way("refused", [Ok, Ok, Ok], 3, 200, [[1, 0, 0, 0, 0], NOTHING])
        },
        way(
            "429 retried",
            [status(429), Ok, Ok],
            3,
            200,
            [[0, 0, 0, 0, 1], NOTHING],
        ),
        way(
            "503 final",
            [status(503), status(503), status(503)],
            1,
            503,
            [[0, 0, 0, 0, 3], [0, 0, 0, 0, 1]],
        ),
        way(
            "reset before its answer",
            [ResetOnRequest, Ok, Ok],
            3,
            200,
            // It stays in the lists: that counts only where the document says so.
            [[0, 1, 0, 0, 0], NOTHING],
        ),
        way(
            "all reset",
            [ResetOnRequest, ResetOnRequest, ResetOnRequest],
            1,
            503,
            [[0, 3, 0, 0, 0], [0, 1, 0, 0, 0]],
        ),
        way(
            "per-try timeout",
            [Hold, Ok, Ok],
            3,
            200,
            [[0, 0, 1, 0, 0], NOTHING],
        ),
        way(
            "all too late",
            [Hold, Hold, Hold],
            1,
            504,
            [[0, 0, 3, 0, 0], NOTHING],
        ),
    ]
}

/// All that was told, once it is as much as was to be told; a moment later it is no more.
async fn told(envoy: &Envoy, wanted: Told) -> Result<()> {
    let read = async || -> Result<Told> {
        let mut told = NOTHING;
        for (figure_of, reason) in told.iter_mut().zip(REASONS) {
            *figure_of = figure(envoy, "failed_attempts_total", reason).await?;
        }
        told[4] = figure(envoy, "cooldowns_total", "status").await?;
        Ok(told)
    };
    eventually(SOON, "what is told of the attempts", async || {
        let told = read().await?;
        ensure!(told == wanted, "{told:?} instead of {wanted:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_attempt_tells_once_what_it_met() -> Result<()> {
    println!("of [refused, reset, late, unknown, cooling]: with the role upstream, without");
    for way in ways() {
        for (role, wanted) in [true, false].into_iter().zip(way.told) {
            let backends = backends(["a", "b", "c"])?;
            let [a, b, c] = &backends;
            let mut bootstrap = bootstrap(&document(&[a, b, c]))?;
            if !role {
                bootstrap = bootstrap.without_role(CLUSTER);
            }
            let envoy = Envoy::start(bootstrap).await?;
            for (backend, behaviour) in backends.iter().zip(&way.behaviours) {
                backend.set(behaviour.clone());
            }
            if way.is_dead {
                a.stop().await;
            }
            let mut client = envoy.client();
            for nth in 0..way.sent {
                let status = client.get("/").await?.status;
                ensure!(status == way.status, "{}: {status} for GET {nth}", way.name);
            }
            let told = told(&envoy, wanted).await;
            told.with_context(|| format!("{}, with the role: {role}", way.name))?;
            backends
                .iter()
                .for_each(|backend| backend.set(Behaviour::Ok));
        }
        println!("{:24} {:?} {:?}", way.name, way.told[0], way.told[1]);
    }
    Ok(())
}

/// A gRPC answer of trailers only is HTTP 200: one that is retried the role upstream alone sees.
#[tokio::test]
async fn a_grpc_answer_of_trailers_only_tells_its_own_status() -> Result<()> {
    for (role, retried) in [(true, 1), (false, 0)] {
        let [a, b] = backends(["a", "b"])?;
        let mut document = document(&[&a, &b]);
        document["http2"] = true.into();
        document["retry"] = json!({"on": ["grpc:14"]});
        document["passive"]["cooldown"]["statuses"] = json!(["grpc:8", "grpc:14"]);
        let mut bootstrap = h2(bootstrap(&document)?);
        if !role {
            bootstrap = bootstrap.without_role(CLUSTER);
        }
        let envoy = Envoy::start(bootstrap).await?;
        a.set(Behaviour::GrpcStatus(14));
        for _ in 0..2 {
            let reply = grpc::call(envoy.address(), METHOD, b"one").await?;
            ensure!(reply.grpc_status == Some(0), "{reply:?}");
        }
        let told_retried = told(&envoy, [0, 0, 0, 0, retried]).await;
        told_retried.with_context(|| format!("retried, with the role: {role}"))?;
        b.set(Behaviour::GrpcStatus(8));
        let reply = grpc::call(envoy.address(), METHOD, b"one").await?;
        ensure!(reply.grpc_status == Some(8), "{reply:?}");
        let told_final = told(&envoy, [0, 0, 0, 0, retried + 1]).await;
        told_final.with_context(|| format!("final, with the role: {role}"))?;
    }
    Ok(())
}

/// Answers every request with the head of a longer answer and resets the connection.
async fn breaks_off() -> Result<(std::net::SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok() {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
                let written = stream.write_all(head).await;
                drop((written, stream));
            }
        }
    });
    Ok((address, task))
}

/// An answer that breaks off was an answer: only its beginning counts.
#[tokio::test]
async fn an_answer_that_breaks_off_is_no_failed_attempt() -> Result<()> {
    let (address, task) = breaks_off().await?;
    let mut document = document(&[]);
    document["backends"] = json!([{"address": address.to_string()}]);
    let envoy = Envoy::start(bootstrap(&document)?).await?;
    let answer = envoy.client().get("/").await;
    ensure!(answer.is_err(), "{answer:?}");
    told(&envoy, NOTHING).await?;
    task.abort();
    Ok(())
}

/// A client that leaves while a backend takes its time says nothing of that backend.
#[tokio::test]
async fn a_client_that_leaves_tells_nothing() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = document(&[&a, &b]);
    document["retry"]["perTryTimeout"] = "1h".into();
    let envoy = Envoy::start(bootstrap(&document)?).await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let requests = Requests::send(envoy.address(), 4);
    crate::scene::in_flight(&[&a, &b], 4).await?;
    drop(requests);
    let gone = "http.ingress.downstream_rq_rx_reset";
    let closed = "http.ingress.downstream_cx_destroy_remote_active_rq";
    let left = eventually(SOON, "the clients to have left", async || {
        let left = envoy.stat(closed).await? + envoy.stat(gone).await?;
        ensure!(left >= 4, "{left}");
        Ok(())
    });
    left.await?;
    told(&envoy, NOTHING).await
}

fn route_mut(bootstrap: &mut Bootstrap) -> Result<&mut Value> {
    let manager = bootstrap.manager_mut()?;
    let route = manager.pointer_mut("/route_config/virtual_hosts/0/routes/0/route");
    route.context("no route")
}

/// The slower of two attempts that run at once is ended by Envoy: nobody's fault.
#[tokio::test]
async fn a_hedged_attempt_tells_nothing_of_the_slower_one() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut bootstrap = bootstrap(&document(&[&a, &b]))?;
    route_mut(&mut bootstrap)?["hedge_policy"] = json!({"hedge_on_per_try_timeout": true});
    let envoy = Envoy::start(bootstrap).await?;
    a.set(Behaviour::Slow(Duration::from_secs(1)));
    let mut client = envoy.client();
    for _ in 0..4 {
        let answer = client.get("/").await?;
        ensure!(
            answer.status == 200 && answer.backend() == Some("b"),
            "{answer:?}"
        );
    }
    let hedged = envoy.stat("cluster.orders.upstream_rq_retry").await?;
    println!("{hedged} hedged attempts");
    ensure!(
        hedged > 0 && hedged == u64::try_from(a.hits())?,
        "{hedged}, {}",
        a.hits()
    );
    told(&envoy, NOTHING).await
}

/// A shadow was never picked, so nothing is known of its attempts; nor do two clusters mix.
#[tokio::test]
async fn a_shadow_tells_nothing() -> Result<()> {
    let [a, b, shadow] = backends(["a", "b", "shadow"])?;
    let orders = document(&[&a, &b]);
    let mut shadows = document(&[&shadow]);
    shadows["name"] = SHADOW.into();
    let container = json!({"schema": 1, "clusters": [orders, shadows]});
    let mut bootstrap = Bootstrap::fixed(&container)?
        .endpoints(CLUSTER, &[a.address(), b.address()])?
        .endpoints(SHADOW, &[shadow.address()])?;
    route_mut(&mut bootstrap)?["request_mirror_policies"] = json!([{"cluster": SHADOW}]);
    let envoy = Envoy::start(bootstrap).await?;
    shadow.set(Behaviour::status(429));
    let mut client = envoy.client();
    for _ in 0..20 {
        ensure!(client.get("/").await?.status == 200);
    }
    let shadows = "cluster.shadow.upstream_rq_completed";
    envoy.wait_for_stat_at_least(shadows, 20).await?;
    told(&envoy, NOTHING).await?;
    let name = format!("wasmcustom.pointsman_cooldowns_total;c={SHADOW};r=status");
    ensure!(
        envoy.stat(&name).await? == 0,
        "a shadow cooled its backend down"
    );
    Ok(())
}

/// Envoy begins a new stream for the place that an answer names; the first stream's attempt was answered.
#[tokio::test]
async fn an_internal_redirect_tells_of_both_streams_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut bootstrap = bootstrap(&document(&[&a, &b]))?;
    route_mut(&mut bootstrap)?["internal_redirect_policy"] = json!({"max_internal_redirects": 1});
    let envoy = Envoy::start(bootstrap).await?;
    let address = envoy.address();
    let headers = vec![("location", format!("http://{address}/there"))];
    a.set(Behaviour::Answer {
        status: 302,
        headers,
    });
    b.set(Behaviour::status(429));
    let mut client = envoy.client();
    let statuses = [client.get("/").await?.status, client.get("/").await?.status];
    println!(
        "answered {statuses:?}, {} and {} attempts",
        a.hits(),
        b.hits()
    );
    // Once the second backend is left alone, the first one's redirects lead to itself.
    told(&envoy, [0, 0, 0, 0, 1]).await
}
