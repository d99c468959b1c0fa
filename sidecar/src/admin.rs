//! What operators and their tools can ask the sidecar.
//!
//! `/livez`, `/readyz` and `/health` are for everyone. `/metrics`, `/status` and
//! `/admin/health/redis` are too where only this machine can ask; on a wider listener they need the
//! admin token.

mod readiness;
mod status;
mod store;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::settings::Secret;
pub use readiness::Readiness;
pub use status::Sources;

/// What the admin listener works with.
pub struct Admin {
    /// Where the status is read.
    pub sources: Sources,
    /// Every metric.
    pub metrics: Metrics,
    /// What is not ready yet.
    pub readiness: Readiness,
    /// What operators must show on a listener that others can reach.
    pub token: Option<Secret>,
}

/// Serves until told to stop, then answers what was asked before.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let local = listener.local_addr()?.ip().is_loopback();
    let served = axum::serve(listener, router(admin, local));
    served
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}

fn router(admin: Admin, local: bool) -> Router {
    let admin = Arc::new(admin);
    let mut reads = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/status", get(status_json))
        .route("/admin/health/redis", get(store_health));
    if !local {
        reads = reads.layer(from_fn_with_state(Arc::clone(&admin), need_token));
    }
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .merge(reads)
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let waiting = admin.readiness.waiting();
    if waiting.is_empty() {
        return "ok\n".into_response();
    }
    let body = Json(json!({"waitingFor": waiting}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let source = admin.sources.source_status.borrow();
    let body = store::health(&source, &admin.sources.environment);
    (store::code(&source), Json(body)).into_response()
}

async fn store_health(State(admin): State<Arc<Admin>>) -> Response {
    let source = admin.sources.source_status.borrow();
    let body = store::detail(&source, Instant::now());
    (store::code(&source), Json(body)).into_response()
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status_json(State(admin): State<Arc<Admin>>) -> Response {
    let status = Json(admin.sources.status(Instant::now()));
    ([(CACHE_CONTROL, "no-store")], status).into_response()
}

async fn need_token(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(AUTHORIZATION)
        .map_or(&b""[..], |value| value.as_bytes());
    let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
    // Settings refuse a wider listener without a token, so without one nobody is let in.
    let good = admin
        .token
        .as_ref()
        .is_some_and(|token| bool::from(shown.ct_eq(token.reveal().as_bytes())));
    if good {
        return next.run(request).await;
    }
    let body = Json(json!({"error": "the bearer token is missing or wrong"}));
    (StatusCode::UNAUTHORIZED, body).into_response()
}

#[cfg(test)]
mod tests;
