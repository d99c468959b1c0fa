//! The admin routes, asked as a listener on this machine and as a wider one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use pointsman_filter::config::{ClusterConfig, FilterConfig};
use pointsman_filter::fleet::exchange::Rejection;
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::codegen::Service;

mod live;
mod store;
mod writes;

use axum::http::header::AUTHORIZATION;

use super::*;
use crate::fleet::{Fleet, Node, ProcessReport};
use crate::health::Health;
use crate::jobs::QueueStatus;
use crate::model::outcome::{Failure, Outcome};
use crate::model::overrides::Overrides;
use crate::telemetry::counts::EventCounts;

use crate::registry::{Registry, SourceStatus};
use crate::settings::Secret;
use crate::xds::{Kind, Nack, Progress, Proxies, Proxy};

/// Routes over a registry with one backend that fails its probes, and one proxy.
fn routes(local: bool, readiness: Readiness) -> Router {
    routes_over(local, readiness, SourceStatus::default())
}

/// The same over a source that is doing so.
fn routes_over(local: bool, readiness: Readiness, source: SourceStatus) -> Router {
    let document = json!({"name": "orders",
        "healthCheck": {"http": {"headers": [{"name": "x-key", "value": "geheim"}]},
            "unhealthyThreshold": 1},
        "jsonRpc": {"errors": "Map"},
        "backends": [{"id": "a", "address": "10.0.0.1:80", "weight": 7}]});
    let cluster = ClusterConfig::parse(&document).expect("a good document");
    let mut health = Health::new(5, 7, Duration::from_secs(30));
    health.apply(std::slice::from_ref(&cluster), 9, Duration::ZERO);
    let jobs = health.start_due(Duration::from_secs(1), 1);
    let outcome = Outcome::Failed(Failure::Status(503));
    health
        .take_result(jobs[0].target, outcome, Duration::from_secs(2))
        .expect("it counts");
    let registry = Registry {
        config: FilterConfig::new(vec![cluster], None),
        revision: 9,
        rejected: vec![crate::registry::model::Rejected {
            place: "clusters.bad".to_owned(),
            error: "no".to_owned(),
        }],
        overrides: Overrides::default(),
        etags: BTreeMap::new(),
    };
    let registry = watch::Sender::new(Some(Arc::new(registry)));
    let (health, fleet) = (
        watch::Sender::new(health.view()),
        watch::Sender::new(fleet()),
    );
    let sources = Sources {
        environment: "test".to_owned(),
        source: "file clusters.yaml".to_owned(),
        started: Instant::now(),
        registry: registry.subscribe(),
        source_status: watch::Sender::new(source).subscribe(),
        health: health.subscribe(),
        trust: watch::Sender::default().subscribe(),
        fleet: fleet.subscribe(),
        proxies: watch::Sender::new(proxies()).subscribe(),
        queue: watch::Sender::new(QueueStatus::Up(3)).subscribe(),
    };
    let gauges = Gauges {
        registry: registry.subscribe(),
        source: watch::Sender::default().subscribe(),
        health: health.subscribe(),
        fleet: fleet.subscribe(),
        proxies: sources.proxies.clone(),
        queue: sources.queue.clone(),
    };
    let metrics = Metrics::new(EventCounts::default(), gauges);
    let reloads = Reloads::new(watch::Sender::default(), None);
    let admin = Admin {
        sources,
        metrics,
        readiness,
        access: access(Some("word")),
        editor: live::editor_of_nothing(),
        reloads,
        queue: Queue::Disabled,
        stop: CancellationToken::new(),
    };
    router(admin, local)
}

fn access(token: Option<&str>) -> Access {
    Access {
        token: token.map(|token| Secret::new(token.to_owned())),
        reload_from: [127, 0, 0, 1].into(),
    }
}

fn fleet() -> Fleet {
    let report = ProcessReport {
        revisions: vec![8, 9],
        workers: 2,
        refused: Some(Rejection {
            revision: 10,
            reason: "too new".to_owned(),
        }),
        written: None,
        since: Instant::now(),
        seen: Instant::now(),
        unserving: None,
        idle: false,
        asks_left: 0,
    };
    let other = ProcessReport {
        revisions: vec![9],
        refused: None,
        seen: report.seen + Duration::from_secs(1),
        ..report.clone()
    };
    let node = Node {
        processes: BTreeMap::from([(Some(1), other), (Some(2), report)]),
    };
    Fleet {
        nodes: BTreeMap::from([("edge-1".to_owned(), node)]),
    }
}

fn proxies() -> Proxies {
    let nack = Nack {
        resource: Some("pointsman-upstream".into()),
        version: "2".to_owned(),
        error: "bad".to_owned(),
    };
    let progress = Progress {
        acked: Some("1".to_owned()),
        nacked: Some(nack),
        pending: 0,
    };
    let proxy = Proxy {
        node: "edge-1".to_owned(),
        connected: Instant::now(),
        types: BTreeMap::from([(Kind::Filters, progress)]),
    };
    Proxies {
        streams: BTreeMap::from([(1, proxy)]),
    }
}

async fn get_at(mut routes: Router, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = axum::http::Request::get(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = routes.call(request).await.expect("a response");
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn status_says_what_is_known_and_keeps_secrets() {
    let routes = routes(true, Readiness::default());
    let (status, text) = get_at(routes, "/status", None).await;
    assert_eq!(status, 200);
    assert!(!text.contains("geheim") && !text.contains("word"), "{text}");
    let status: Value = serde_json::from_str(&text).expect("JSON");
    let cluster = &status["clusters"][0];
    assert_eq!(
        (&cluster["healthy"], &cluster["total"]),
        (&json!(0), &json!(1))
    );
    // HC-1: the defaults are shown.
    assert_eq!(cluster["healthCheck"]["interval"], "10s");
    assert_eq!(cluster["healthCheck"]["healthyThreshold"], 3);
    let rules = json!({"maxBatch": 100, "maxBodyBytes": 262_144, "errors": "Map", "methods": []});
    assert_eq!(cluster["jsonRpc"], rules);
    let backend = &cluster["backends"][0];
    for (field, expected) in [
        ("id", json!("a")),
        ("address", json!("10.0.0.1:80")),
        ("weight", json!(7)),
        ("backup", json!(false)),
        ("state", json!("Normal")),
        ("healthy", json!(false)),
        ("lastFailureReason", json!("status 503")),
    ] {
        assert_eq!(backend[field], expected, "{field}");
    }
    assert_eq!(status["registry"]["revision"], "0000000000000009");
    assert_eq!(status["registry"]["rejected"][0]["place"], "clusters.bad");
    let proxy = &status["proxies"][0];
    assert_eq!(
        proxy["revisions"],
        json!(["0000000000000008", "0000000000000009"])
    );
    assert_eq!(proxy["refused"]["reason"], "too new");
    assert_eq!(
        (&proxy["doubled"], &proxy["workers"]),
        (&json!(true), &json!(4))
    );
    assert_eq!(proxy["processes"][0]["process"], "0000000000000001");
    assert_eq!(
        proxy["processes"][0]["revisions"],
        json!(["0000000000000009"])
    );
    assert_eq!(proxy["processes"][1]["refused"]["reason"], "too new");
    assert_eq!(
        proxy["streams"][0]["types"]["filters"]["nacked"],
        json!({"resource": "pointsman-upstream", "version": "2", "error": "bad"})
    );
}

#[tokio::test]
async fn ready_once_nothing_is_waited_for_and_alive_all_along() {
    let readiness = Readiness::default();
    let xds = readiness.wait_for("xds");
    let routes = routes(true, readiness);
    let (status, text) = get_at(routes.clone(), "/readyz", None).await;
    assert_eq!((status, text.as_str()), (503, r#"{"waitingFor":["xds"]}"#));
    assert_eq!(get_at(routes.clone(), "/livez", None).await.0, 200);
    drop(xds);
    assert_eq!(get_at(routes, "/readyz", None).await.0, 200);
}

#[tokio::test]
async fn on_a_wider_listener_reading_needs_the_token() {
    for path in [
        "/status",
        "/metrics",
        "/admin/health/redis",
        "/v1/clusters",
        "/v1/clusters/orders/backends/a",
        "/v1/overrides",
        "/v1/proxies",
        "/v1/config",
    ] {
        let wide = routes(false, Readiness::default());
        assert_eq!(get_at(wide.clone(), path, None).await.0, 401, "{path}");
        assert_eq!(
            get_at(wide.clone(), path, Some("wort")).await.0,
            401,
            "{path}"
        );
        assert_eq!(get_at(wide, path, Some("word")).await.0, 200, "{path}");
        let local = routes(true, Readiness::default());
        assert_eq!(get_at(local, path, None).await.0, 200, "{path}");
    }
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(
            get_at(routes(false, Readiness::default()), path, None)
                .await
                .0,
            200,
            "{path}"
        );
    }
}
