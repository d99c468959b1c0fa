//! What operators and their tools can ask the sidecar, and tell it.
//!
//! `/livez`, `/readyz` and `/health` are for everyone. What else can be read is too where only this
//! machine can ask, by a name of its own; on a wider listener it needs the admin token. Writes, and
//! documents, which may hold what probes send along, need the token wherever one is set.

mod access;
mod backends;
mod clusters;
mod condition;
mod failure;
mod gauges;
mod jobs;
mod overrides;
mod proxies;
mod readiness;
mod reload;
mod serving;
mod status;
mod store;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::jobs::Queue;
use crate::net::listener::Listener;
use crate::net::serve::{self, Rules};
use crate::registry::Registry;
use crate::registry::editor::Editor;
use crate::telemetry::metrics::{self, Metrics};
pub use access::Access;
use failure::Failure;
pub use gauges::Gauges;
pub use readiness::Readiness;
pub use reload::Reloads;
pub use status::Sources;

/// Longest body of a request that is no document, bytes.
const BODY_MAX: usize = 64 << 10;

/// What the admin listener works with.
pub struct Admin {
    /// Where the status is read.
    pub sources: Sources,
    /// Every metric.
    pub metrics: Metrics,
    /// What is not ready yet.
    pub readiness: Readiness,
    /// Who may ask.
    pub access: Access,
    /// The way to change the registry.
    pub editor: Editor,
    /// The way to have it read again.
    pub reloads: Reloads,
    /// What is to be done later, or takes long.
    pub queue: Queue,
    /// Ends every wait.
    pub stop: CancellationToken,
}

impl Admin {
    /// Waits for a write to be served, see [`serving::wait`].
    async fn serving(&self, is: impl Fn(&Registry) -> bool) -> api::Serving {
        let (registry, status) = (&self.sources.registry, &self.sources.source_status);
        serving::wait(registry.clone(), status.clone(), is).await
    }
}

/// Whoever connects more often waits to be accepted.
const RULES: Rules = Rules {
    connections_max: 256,
    http2: false,
};

/// Serves until told to stop, then answers what was asked before.
pub async fn serve(
    listener: Listener,
    routes: watch::Receiver<Router>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    serve::serve(listener, RULES, routes, stop).await;
    Ok(())
}

/// The routes until the registry has been read.
pub fn early(readiness: Readiness) -> Router {
    let later = "the registry has not been read yet";
    probes(readiness).fallback(async move || Failure::new(StatusCode::SERVICE_UNAVAILABLE, later))
}

/// The routes of a listener for scrapers, who hold no token.
pub fn figures(readiness: Readiness, metrics: Metrics) -> Router {
    let text = get(async move || metrics_text(&metrics));
    probes(readiness).route("/metrics", text)
}

/// For whoever keeps the process running.
fn probes<S: Clone + Send + Sync + 'static>(readiness: Readiness) -> Router<S> {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(async move || readyz(&readiness)))
}

/// The routes of the admin API; `local`: only this machine can ask.
pub fn router(admin: Admin, local: bool) -> Router {
    let admin = Arc::new(admin);
    let metrics = admin.metrics.clone();
    let figures = Router::new()
        .route("/metrics", get(async move || metrics_text(&metrics)))
        .route("/admin/health/redis", get(store_health));
    let reads = Router::new()
        .route("/status", get(status_json))
        .route("/v1/clusters", get(clusters::list))
        .route(
            "/v1/clusters/{cluster}/backends/{backend}",
            get(backends::read),
        )
        .route("/v1/overrides", get(overrides::list))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::read))
        .route("/v1/proxies", get(proxies))
        .route("/v1/config", get(config));
    let reads = match local {
        // Scrapers may know us by any name.
        true => {
            let own_name = from_fn_with_state(Arc::clone(&admin), access::need_own_name);
            reads.layer(own_name).merge(figures)
        }
        false => {
            let token = from_fn_with_state(Arc::clone(&admin), access::need_token);
            reads.merge(figures).layer(token)
        }
    };
    let document = get(clusters::read)
        .put(clusters::put)
        .patch(clusters::patch)
        .delete(clusters::delete)
        .layer(DefaultBodyLimit::max(clusters::DOCUMENT_MAX));
    let writes = Router::new()
        .route("/reload", post(reload::reload))
        .route(
            "/v1/clusters/{cluster}/backends/{backend}/{act}",
            post(overrides::say),
        )
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .route("/v1/clusters/{cluster}", document)
        .merge(
            Router::new()
                .route("/v1/jobs", post(jobs::take_on))
                .route("/v1/apply", post(jobs::apply))
                .layer(DefaultBodyLimit::max(jobs::BODY_MAX)),
        )
        .layer(from_fn_with_state(Arc::clone(&admin), access::may_write));
    probes(admin.readiness.clone())
        .route("/health", get(health))
        .merge(reads)
        .merge(writes)
        .fallback(async || Failure::missing("there is nothing here"))
        .method_not_allowed_fallback(async || {
            let why = "that method is not allowed here";
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .layer(map_response(failure::in_json))
        .with_state(admin)
}

fn readyz(readiness: &Readiness) -> Response {
    let waiting = readiness.waiting();
    if waiting.is_empty() {
        return "ok\n".into_response();
    }
    let body = Json(json!({"waitingFor": waiting}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let source = admin.sources.source_status.borrow();
    let queue = *admin.sources.queue.borrow();
    let body = store::health(&source, queue, &admin.sources.environment);
    (store::code(&source), Json(body)).into_response()
}

async fn store_health(State(admin): State<Arc<Admin>>) -> Response {
    let source = admin.sources.source_status.borrow();
    let queue = *admin.sources.queue.borrow();
    let body = store::detail(&source, queue, Instant::now());
    (store::code(&source), Json(body)).into_response()
}

fn metrics_text(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status_json(State(admin): State<Arc<Admin>>) -> Response {
    let status = Json(admin.sources.status(Instant::now()));
    // Hyper repeats its last date until the clock has passed it: once the clock is set back by an hour, that
    // date is wrong for an hour, and `doctor` would compare it with Envoy's.
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    let date = date.unwrap_or_default();
    (
        [(CACHE_CONTROL, "no-store".to_owned()), (DATE, date)],
        status,
    )
        .into_response()
}

async fn proxies(State(admin): State<Arc<Admin>>) -> Json<api::Proxies> {
    let proxies = admin.sources.proxies(Instant::now());
    Json(api::Proxies { proxies })
}

async fn config(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(admin.sources.config())
}

#[cfg(test)]
mod tests;
