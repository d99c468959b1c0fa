//! Requests that no decent client sends: none of them ends a VM, and others do not notice.

use anyhow::{Context, Result, ensure};
use harness::registry::cluster;
use harness::{Bootstrap, Envoy, Load, raw};
use serde_json::{Value, json};

use crate::scene::{CLUSTER, answered_by, backends};

/// Sticky and by round robin: as much of the filter as possible looks at a request.
fn settings() -> Value {
    json!({"loadBalancing": {"policy": "RoundRobin"}, "sticky": {"cookie": "POINTSMAN"}})
}

async fn envoy_of(document: &Value) -> Result<Envoy> {
    let unknown = |bootstrap: Bootstrap| bootstrap.route("/strangers", "strangers");
    Envoy::start(unknown(
        crate::scene::bootstrap(document)?.endpoints("strangers", &[])?,
    )?)
    .await
}

/// Header values are bytes: whatever they are, they pass, or Envoy refuses them itself.
#[tokio::test]
async fn header_values_that_are_no_utf_8_pass_through() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = envoy_of(&cluster(CLUSTER, &[&a, &b], settings())).await?;
    let before = raw::get(envoy.address(), "/", &[]).await?;
    assert_eq!(before.status, 200);
    let mut statuses = Vec::new();
    for header in [
        &b"x-bin: \xff\xfe\x80"[..],
        b"cookie: \xff\xfe=\x80; POINTSMAN=\xff\xc0\xaf; x=\xe2\x82",
        b"cookie: POINTSMAN=\x80",
        b"cookie: POINTSMAN",
        b"cookie: =;;;=;POINTSMAN=;=",
        b"cookie: POINTSMAN=\"",
        b"cookie: POINTSMAN=\"\"; POINTSMAN=\"\xff\"",
        b"user-agent: \xc3\x28",
        b"x-request-id: \xff\xff",
        b"x-forwarded-for: \xff, 1.2.3.4",
        b"x-gateway-destination-endpoint: \xff,\xfe",
        b"x-envoy-max-retries: \xff",
        b"content-type: application/grpc\xff",
        b"accept: \xf0\x9f\x98\x80",
    ] {
        let response = raw::get(envoy.address(), "/", &[header]).await?;
        ensure!(
            response.status == 200,
            "{}: {}",
            header.escape_ascii(),
            response.text()
        );
        statuses.push(response.status);
    }
    let arrived: Vec<_> = [&a, &b]
        .iter()
        .flat_map(|backend| backend.requests())
        .collect();
    let kept = |name: &str, value: &[u8]| {
        arrived.iter().any(|request| {
            request
                .headers
                .get(name)
                .is_some_and(|v| v.as_bytes() == value)
        })
    };
    println!(
        "{} headers of arbitrary bytes: all answered {statuses:?}",
        statuses.len()
    );
    ensure!(kept("x-bin", b"\xff\xfe\x80"), "bytes arrive as they were");
    ensure!(
        kept("cookie", b"\xff\xfe=\x80; x=\xe2\x82"),
        "other cookies too"
    );
    Ok(())
}

/// Large, many, empty.
#[tokio::test]
async fn oversized_cookies_end_no_vm() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = envoy_of(&cluster(CLUSTER, &[&a, &b], settings())).await?;
    let mut statuses = Vec::new();
    for cookie in [
        format!("cookie: POINTSMAN={}", "x".repeat(50_000)),
        format!("cookie: {}POINTSMAN=a", "y=z; ".repeat(8_000)),
        format!("cookie: {}", "POINTSMAN=a;".repeat(4_000)),
        format!("cookie: {}", ";".repeat(50_000)),
        format!("cookie: POINTSMAN={}", "x".repeat(100_000)),
    ] {
        let response = raw::get(envoy.address(), "/", &[cookie.as_bytes()]).await?;
        statuses.push(response.status);
    }
    let lines = vec![&b"cookie: POINTSMAN=a; q=1"[..]; 90];
    statuses.push(raw::get(envoy.address(), "/", &lines).await?.status);
    println!("oversized cookies: {statuses:?} (431 is Envoy's own answer)");
    assert_eq!(statuses, [200, 200, 200, 200, 431, 200]);
    assert_eq!(a.hits() + b.hits(), 5, "of those that Envoy let in");
    assert_eq!(answered_by(&mut envoy.client(), 10).await?.len(), 10);
    Ok(())
}

/// No host, no path, no known method, no route: Envoy answers, or the backend does.
#[tokio::test]
async fn requests_without_the_usual_parts_end_no_vm() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = envoy_of(&cluster(CLUSTER, &[&a, &b], settings())).await?;
    let close = "connection: close\r\n\r\n";
    let requests = [
        (format!("GET / HTTP/1.1\r\n{close}"), 400),
        (format!("GET / HTTP/1.0\r\n{close}"), 426),
        (format!("GET / HTTP/1.1\r\nhost:\r\n{close}"), 200),
        (
            format!("GET http://else.where:1/x HTTP/1.1\r\nhost: story\r\n{close}"),
            200,
        ),
        (format!("OPTIONS * HTTP/1.1\r\nhost: story\r\n{close}"), 404),
        (format!("BREW / HTTP/1.1\r\nhost: story\r\n{close}"), 400),
        (
            format!("{} / HTTP/1.1\r\nhost: story\r\n{close}", "M".repeat(500)),
            400,
        ),
        (
            format!("CONNECT story:80 HTTP/1.1\r\nhost: story\r\n{close}"),
            404,
        ),
        // A cluster without endpoints, and not in the registry.
        (
            format!("GET /strangers HTTP/1.1\r\nhost: story\r\n{close}"),
            503,
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nhost: story\r\n{close}",
                "p".repeat(50_000)
            ),
            200,
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: story\r\ntransfer-encoding: nonsense\r\n{close}"),
            501,
        ),
        (
            format!("POST / HTTP/1.1\r\nhost: story\r\ncontent-length: 5\r\n{close}hello"),
            200,
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: story\r\nx-empty:\r\n{close}"),
            200,
        ),
    ];
    for (request, expected) in requests {
        let line: String = request.chars().take(40).collect();
        let answer = raw::exchange(envoy.address(), request.as_bytes()).await;
        let answer = answer.with_context(|| line.clone())?;
        ensure!(
            answer.status == expected,
            "{line:?}: {}, not {expected}",
            answer.text()
        );
    }
    assert_eq!(answered_by(&mut envoy.client(), 10).await?.len(), 10);
    Ok(())
}

/// All of it while others work: not one of them is disturbed.
#[tokio::test]
async fn decent_clients_do_not_notice_hostile_ones() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = envoy_of(&cluster(CLUSTER, &[&a, &b], settings())).await?;
    let load = Load::new(envoy.address(), 2000)
        .connections(2)
        .per_second(1000)
        .start();
    let mut sent = 0;
    while load.done() < 2000 {
        let cookie = [b"cookie: POINTSMAN=", &[0x80 | sent as u8; 300][..]].concat();
        let answer = raw::get(envoy.address(), "/", &[&cookie, b"x-bin: \xff"]).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        sent += 1;
    }
    let tally = load.finish().await?;
    println!(
        "2000 decent GETs beside {sent} hostile ones: {:?}",
        tally.statuses
    );
    tally.ensure_clean()?;
    Ok(())
}
