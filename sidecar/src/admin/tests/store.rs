//! How the store is doing, over HTTP.

use super::*;
use crate::model::size::Size;
use crate::registry::model::WriterStatus;
use crate::registry::{Held, Reachability, StoreKind};

async fn answers(source: SourceStatus) -> [(u16, Value); 3] {
    let routes = routes_over(true, Readiness::default(), source);
    let mut answers = Vec::new();
    for path in ["/health", "/admin/health/redis", "/status"] {
        let (status, text) = get_at(routes.clone(), path, None).await;
        answers.push((status, serde_json::from_str(&text).expect("JSON")));
    }
    assert_eq!(get_at(routes, "/readyz", None).await.0, 200);
    answers.try_into().expect("three answers")
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_ready() {
    let source = SourceStatus {
        error: Some("no".to_owned()),
        reachability: Reachability::Down,
        kind: StoreKind::Redis,
        listings: 7,
        listing_took: Duration::from_millis(12),
        synced: Some(Instant::now()),
        held: None,
        writer: WriterStatus {
            counters: [("registry_lost".to_owned(), 3)].into(),
            ..WriterStatus::default()
        },
        reloaded: 0,
        clock_ahead_ms: -70,
    };
    let [health, detail, status] = answers(source).await;
    let expected = json!({"status": "unhealthy", "version": env!("CARGO_PKG_VERSION"),
        "environment": "test", "redis": {"status": "disconnected", "backend": "redis"},
        "queue": {"status": "connected", "backend": "redis", "queue_depth": 3}});
    assert_eq!(health, (503, expected));
    assert_eq!(detail.0, 503);
    assert_eq!(detail.1["demo_mode"], false);
    let counters = json!({"backend": "redis", "status": "disconnected",
        "totals": {"registry_lost": 3}});
    assert_eq!(detail.1["counter_backend"], counters);
    let registry = &detail.1["registry"];
    assert_eq!(
        (
            &registry["error"],
            &registry["listings"],
            &registry["clockAheadMs"]
        ),
        (&json!("no"), &json!(7), &json!(-70))
    );
    assert_eq!(status.0, 200);
    assert_eq!(status.1["registry"]["store"]["status"], "disconnected");
}

#[tokio::test]
async fn a_store_that_answers_and_none_at_all_are_200() {
    let size = |backends| Size {
        clusters: 1,
        backends,
    };
    let source = SourceStatus {
        reachability: Reachability::Up,
        kind: StoreKind::Redis,
        held: Some(Held {
            served: size(10),
            found: size(1),
        }),
        ..SourceStatus::default()
    };
    let [health, detail, _] = answers(source).await;
    assert_eq!(
        (health.0, &health.1["redis"]["status"]),
        (200, &json!("connected"))
    );
    let held = json!({"servedBackends": 10, "foundBackends": 1});
    assert_eq!(detail.1["registry"]["held"], held);

    let [health, detail, _] = answers(SourceStatus::default()).await;
    let memory = json!({"status": "disabled", "backend": "memory"});
    assert_eq!((health.0, &health.1["redis"]), (200, &memory));
    assert_eq!((detail.0, &detail.1["demo_mode"]), (200, &json!(true)));
    let memory = json!({"backend": "memory"});
    assert_eq!(detail.1["counter_backend"], memory);
}

#[tokio::test]
async fn rm_15_redis_is_disabled_beside_kubernetes() {
    let source = |store| SourceStatus {
        reachability: store,
        kind: StoreKind::Kubernetes,
        ..SourceStatus::default()
    };
    let [health, detail, status] = answers(source(Reachability::Up)).await;
    let redis = json!({"status": "disabled", "backend": "kubernetes"});
    assert_eq!((health.0, &health.1["redis"]), (200, &redis));
    assert_eq!(health.1["kubernetes"]["status"], "connected");
    assert_eq!(detail.1["redis"]["status"], "disabled");
    assert_eq!(status.1["registry"]["store"]["backend"], "kubernetes");
    let [health, detail, _] = answers(source(Reachability::Down)).await;
    assert_eq!((health.0, detail.0), (503, 503));
    assert_eq!(health.1["kubernetes"]["status"], "disconnected");
}
