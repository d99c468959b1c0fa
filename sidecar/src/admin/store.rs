//! `/health` and `/admin/health/redis`: how the registry's store is doing, and what else is kept in
//! it: counters and the queue of jobs.

use axum::http::StatusCode;
use pointsman_filter::config::duration;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api;
use crate::jobs::QueueStatus;
use crate::registry::{Reachability, SourceStatus, StoreKind};

/// 503 while the store is out of reach, or takes no writes.
pub fn code(source: &SourceStatus) -> StatusCode {
    match source.reachability {
        Reachability::Up if source.writer.unwritable.is_some() => StatusCode::SERVICE_UNAVAILABLE,
        Reachability::Memory | Reachability::Up => StatusCode::OK,
        Reachability::Down => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// For load balancers and monitors.
pub fn health(source: &SourceStatus, queue: QueueStatus, environment: &str) -> Value {
    let status = match code(source) {
        StatusCode::OK => "healthy",
        _ => "unhealthy",
    };
    let mut health = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "environment": environment,
        "redis": {"status": redis(source), "backend": backend(source.kind)},
        "queue": jobs(queue),
    });
    if let Some(why) = &source.writer.unwritable {
        health["redis"]["unwritable"] = why.as_str().into();
    }
    if source.kind == StoreKind::Kubernetes {
        health["kubernetes"] = json!({"status": connection(source.reachability)});
    }
    health
}

/// For operators.
pub fn detail(source: &SourceStatus, queue: QueueStatus, now: Instant) -> Value {
    json!({
        "demo_mode": source.reachability == Reachability::Memory,
        "counter_backend": counters(source),
        "redis": {"status": redis(source)},
        "queue_service": jobs(queue),
        "registry": registry(source, now),
    })
}

/// The store's part of `/status` and of the detail.
pub fn registry(source: &SourceStatus, now: Instant) -> api::Store {
    let outside = source.reachability != Reachability::Memory;
    let synced = source.synced;
    let took = u64::try_from(source.listing_took.as_millis()).unwrap_or(u64::MAX);
    api::Store {
        backend: backend(source.kind).to_owned(),
        status: connection(source.reachability).to_owned(),
        error: source.error.clone(),
        unwritable: source.writer.unwritable.clone(),
        listings: outside.then_some(source.listings),
        listing_ms: outside.then_some(took),
        clock_ahead_ms: outside.then_some(source.clock_ahead_ms),
        last_read_ago: synced.map(|synced| duration::print(now.duration_since(synced))),
        held: source.held.map(Into::into),
    }
}

/// Where events are counted for all sidecars together; in memory each counts its own.
fn counters(source: &SourceStatus) -> Value {
    match source.kind {
        StoreKind::Memory | StoreKind::Kubernetes => json!({"backend": "memory"}),
        StoreKind::Redis => json!({
            "backend": "redis",
            "status": connection(source.reachability),
            "totals": source.writer.counters,
        }),
    }
}

/// The queue of jobs; the depth counts those that wait and those under way.
fn jobs(queue: QueueStatus) -> Value {
    match queue {
        QueueStatus::Disabled => json!({"status": "disabled"}),
        QueueStatus::Memory(depth) => {
            json!({"status": "disabled", "backend": "memory", "queue_depth": depth})
        }
        QueueStatus::Up(depth) => {
            json!({"status": "connected", "backend": "redis", "queue_depth": depth})
        }
        QueueStatus::Unread | QueueStatus::Down => {
            json!({"status": "disconnected", "backend": "redis"})
        }
    }
}

fn connection(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Memory => "disabled",
        Reachability::Up => "connected",
        Reachability::Down => "disconnected",
    }
}

/// Redis has no part in a registry that is kept elsewhere (RM-15).
fn redis(source: &SourceStatus) -> &'static str {
    match source.kind {
        StoreKind::Redis => connection(source.reachability),
        StoreKind::Memory | StoreKind::Kubernetes => "disabled",
    }
}

fn backend(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Memory => "memory",
        StoreKind::Redis => "redis",
        StoreKind::Kubernetes => "kubernetes",
    }
}
