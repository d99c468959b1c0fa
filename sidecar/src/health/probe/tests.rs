//! Probes against small real servers that behave in one way each.

mod h2;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ClusterConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::trust::Trust;

const DEADLINE: Duration = Duration::from_secs(10);

/// A server that is gone with the test.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves each connection, one after the other, by `serve`.
async fn server<F, S>(serve: S) -> Server
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    Server { address, task }
}

/// A server that reads a request's head, says this, and closes.
async fn says(answer: impl Into<Vec<u8>>) -> Server {
    let answer = Arc::new(answer.into());
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("a head of text")
}

/// The plan of a cluster whose document has these fields.
fn plan(fields: Value) -> Plan {
    let mut document = json!({"name": "orders"});
    for (name, value) in fields.as_object().expect("fields") {
        document[name] = value.clone();
    }
    let cluster = ClusterConfig::parse(&document).expect("a good document");
    let check = cluster.health_check.clone().expect("a health check");
    Plan::of(&cluster, &check)
}

fn http() -> Plan {
    plan(json!({"healthCheck": {"http": {}, "timeout": "2s"}}))
}

async fn outcome(plan: &Plan, address: SocketAddr) -> Outcome {
    let tls = clients(plan).await;
    timeout(DEADLINE, probe(plan, address, &tls))
        .await
        .expect("an outcome in time")
}

/// What trusts whom the plan's `caFile` holds now.
async fn clients(plan: &Plan) -> TlsClients {
    let mut document = json!({"name": "orders"});
    if let Some(tls) = &plan.tls {
        document["tls"] = json!({"caFile": tls.ca_file});
    }
    let cluster = ClusterConfig::parse(&document).expect("a good document");
    let trust = Trust::read(&[cluster], &Trust::default()).await;
    TlsClients::new(watch::Sender::new(Arc::new(trust)).subscribe())
}

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn hc_3_the_request_is_exactly_this() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let head = read_head(&mut stream).await;
            let _ = stream
                .write_all(ok("content-length: 0\r\n", "").as_bytes())
                .await;
            sender.send(head).await.expect("the test listens");
        }
    })
    .await;
    assert_eq!(outcome(&http(), server.address).await, Outcome::Passed);
    let head = receiver.recv().await.expect("a head").to_lowercase();
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "get /healthz http/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "connection: close".to_owned(),
            format!("host: {}", server.address)
        ]
    );
}

#[tokio::test]
async fn hc_19_method_host_headers_and_body_are_sent() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let head = read_head(&mut stream).await;
            let mut body = [0; 7];
            stream.read_exact(&mut body).await.expect("the body");
            let _ = stream
                .write_all(ok("content-length: 0\r\n", "").as_bytes())
                .await;
            sender
                .send((head.to_lowercase(), body))
                .await
                .expect("the test listens");
        }
    })
    .await;
    let http = json!({"path": "/rpc?a=b", "method": "POST", "host": "api.example", "body": "{\"a\":1}",
        "headers": [{"name": "x-key", "value": "k 1"}]});
    let plan = plan(json!({"healthCheck": {"http": http}}));
    assert_eq!(outcome(&plan, server.address).await, Outcome::Passed);
    let (head, body) = receiver.recv().await.expect("a request");
    assert_eq!(&body, b"{\"a\":1}");
    for line in [
        "post /rpc?a=b http/1.1\r\n",
        "host: api.example\r\n",
        "x-key: k 1\r\n",
        "length: 7\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
}

#[tokio::test]
async fn hc_5_only_expected_statuses_pass() {
    let exactly_200 =
        plan(json!({"healthCheck": {"http": {"expectedStatuses": [200, "500-501"]}}}));
    for (status, default, exact) in [
        (200, Outcome::Passed, Outcome::Passed),
        (204, Outcome::Passed, Outcome::Failed(Failure::Status(204))),
        (
            302,
            Outcome::Failed(Failure::Status(302)),
            Outcome::Failed(Failure::Status(302)),
        ),
        (501, Outcome::Failed(Failure::Status(501)), Outcome::Passed),
    ] {
        let server = says(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(outcome(&http(), server.address).await, default, "{status}");
        assert_eq!(
            outcome(&exactly_200, server.address).await,
            exact,
            "{status}"
        );
    }
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let server = says(format!("{interim}{}", ok("content-length: 2\r\n", "ok"))).await;
    assert_eq!(outcome(&http(), server.address).await, Outcome::Passed);
}

#[tokio::test]
async fn hc_7_a_slow_loris_runs_into_the_timeout() {
    let server = server(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await;
        // Silent, but open until the prober gives up.
        let _ = stream.read_u8().await;
    })
    .await;
    let plan = plan(json!({"healthCheck": {"http": {}, "timeout": "100ms"}}));
    assert_eq!(
        outcome(&plan, server.address).await,
        Outcome::Failed(Failure::Timeout)
    );
}

#[tokio::test]
async fn hc_7_a_response_that_is_too_long_fails() {
    let body = |length: usize| {
        ok(
            &format!("content-length: {length}\r\n"),
            &"x".repeat(length),
        )
    };
    let head = ok(
        &format!("x-long: {}\r\ncontent-length: 0\r\n", "x".repeat(20_000)),
        "",
    );
    let endless = ok("", &"x".repeat(100_000));
    for (answer, expected) in [
        (body(4096), Outcome::Passed),
        (body(4097), Outcome::Failed(Failure::TooLarge)),
        (endless, Outcome::Failed(Failure::TooLarge)),
        (head, Outcome::Failed(Failure::TooLarge)),
    ] {
        let length = answer.len();
        let server = says(answer).await;
        assert_eq!(outcome(&http(), server.address).await, expected, "{length}");
    }
}

#[tokio::test]
async fn hc_7_an_early_end_fails() {
    for answer in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ] {
        let server = says(answer).await;
        let outcome = outcome(&http(), server.address).await;
        assert_eq!(outcome, Outcome::Failed(Failure::Closed), "{answer:?}");
    }
}

#[tokio::test]
async fn a_reset_fails() {
    let server = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.set_zero_linger().expect("a socket");
    })
    .await;
    assert_eq!(
        outcome(&http(), server.address).await,
        Outcome::Failed(Failure::Closed)
    );
}

#[tokio::test]
async fn what_is_not_http_fails() {
    let server = says("220 mail.example ESMTP\r\n\r\n").await;
    assert_eq!(
        outcome(&http(), server.address).await,
        Outcome::Failed(Failure::Protocol)
    );
}

#[tokio::test]
async fn hc_18_tcp_only_connects_and_leaves_by_a_reset() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let read = stream.read_u8().await.map_err(|error| error.kind());
            sender.send(read).await.expect("the test listens");
        }
    })
    .await;
    let plan = plan(json!({"healthCheck": {"tcp": {}}}));
    assert_eq!(outcome(&plan, server.address).await, Outcome::Passed);
    let read = timeout(DEADLINE, receiver.recv())
        .await
        .expect("in time")
        .expect("a reading");
    assert_eq!(
        read,
        Err(io::ErrorKind::ConnectionReset),
        "and so no TIME_WAIT on our side"
    );
}

#[tokio::test]
async fn nobody_listening_is_refused_at_once() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        listener.local_addr().expect("its address")
    };
    for plan in [http(), plan(json!({"healthCheck": {"tcp": {}}}))] {
        assert_eq!(
            outcome(&plan, address).await,
            Outcome::Failed(Failure::Refused)
        );
    }
}

#[test]
fn what_this_machine_lacks_is_not_the_backends_fault() {
    for errno in [12, 23, 24, 105] {
        let fault = connect_fault(&io::Error::from_raw_os_error(errno));
        assert_eq!(fault, Outcome::Unknown(Obstacle::Resources), "{errno}");
    }
    let no_route = io::Error::from_raw_os_error(113);
    assert_eq!(
        connect_fault(&no_route),
        Outcome::Failed(Failure::Unreachable)
    );
}
