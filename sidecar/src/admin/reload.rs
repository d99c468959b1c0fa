//! `POST /reload`: reads the registry again now, and tells what is different since the last time
//! somebody asked, or since the start.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Admin;
use crate::registry::changes::Changes;
use crate::registry::{Published, Registry, SourceStatus};

/// How long a reload may take; the source has limits of its own for each step.
const RELOAD_MAX: Duration = Duration::from_secs(30);

/// The wishes for a reload, and what was told last.
pub struct Reloads {
    wishes: watch::Sender<u64>,
    told: Mutex<Published>,
}

impl Reloads {
    /// Wishes go to the source; `served` is what it serves at the start.
    pub fn new(wishes: watch::Sender<u64>, served: Published) -> Self {
        let told = Mutex::new(served);
        Reloads { wishes, told }
    }

    /// Wishes for a reload and waits for it to be granted; `None`: it takes too long.
    async fn ask(&self, mut status: watch::Receiver<SourceStatus>) -> Option<SourceStatus> {
        let mut wish = 0;
        self.wishes.send_modify(|wishes| {
            *wishes += 1;
            wish = *wishes;
        });
        let granted = status.wait_for(|status| status.reloaded >= wish);
        let granted = timeout(RELOAD_MAX, granted).await.ok()?;
        granted.ok().map(|status| status.clone())
    }

    /// What is different since the last time, and from now on is not.
    fn tell(&self, served: &Published) -> Changes {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let clusters = |it: &Published| {
            let clusters = it.as_ref().map(|it| it.config.clusters.clone());
            clusters.unwrap_or_default()
        };
        let changes = Changes::between(&clusters(&told), &clusters(served));
        told.clone_from(served);
        changes
    }
}

/// Answers 200 when everything was read and is good, else 500 with all that is not.
pub async fn reload(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    let allowed = admin.access.reload_from;
    if peer.ip().to_canonical() != allowed {
        let error = format!("a reload is allowed from {allowed} only (RELOAD_ALLOWED_IP)");
        let body = json!({"success": false, "message": "Access denied", "error": error});
        return (StatusCode::FORBIDDEN, Json(body)).into_response();
    }
    let Some(status) = admin.reloads.ask(admin.sources.source_status.clone()).await else {
        let why = format!("no answer of the source within {} s", RELOAD_MAX.as_secs());
        return answer(&Changes::default(), Some(&why));
    };
    let served = admin.sources.registry.borrow().clone();
    let changes = admin.reloads.tell(&served);
    answer(&changes, wrong(&status, served.as_deref()).as_deref())
}

/// Everything that is not good about what was read.
fn wrong(status: &SourceStatus, served: Option<&Registry>) -> Option<String> {
    if let Some(error) = &status.error {
        return Some(error.clone());
    }
    if let Some(held) = status.held {
        let (from, to) = (held.served.backends, held.found.backends);
        return Some(format!(
            "{to} of {from} backends are left: waiting for a second reading before it is served"
        ));
    }
    let rejected = served.map_or(&[][..], |served| &served.rejected);
    let errors: Vec<&str> = rejected.iter().map(|it| it.error.as_str()).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

fn answer(changes: &Changes, error: Option<&str>) -> Response {
    match error {
        None => Json(json!({"success": true, "message": "Configuration reloaded",
            "changes": changes}))
        .into_response(),
        Some(error) => {
            let body: Value = json!({"success": false, "message": "Configuration reload failed",
                "error": error, "changes": changes});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}
