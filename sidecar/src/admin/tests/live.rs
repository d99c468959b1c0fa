//! Admin routes over a registry that lives: a demo file that is watched.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use axum::extract::connect_info::MockConnectInfo;
use axum::http::Request;
use pointsman_filter::config::ExchangeConfig;
use tempfile::TempDir;

use super::*;
use crate::health::HealthView;
use crate::registry::Output;
use crate::registry::feeds::file::FileFeed;
use crate::registry::follow::Follower;
use crate::telemetry::counts::EventCounts;
use crate::telemetry::events::Events;

const LOCAL: [u8; 4] = [127, 0, 0, 1];

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
}

fn open(path: &Path) -> Follower<FileFeed> {
    let container = json!({"schema": 1, "clusters": [
        {"name": "orders", "backends": [
            {"id": "a", "address": "10.0.0.1:80"}, {"id": "b/1", "address": "10.0.0.2:80"}]}]});
    std::fs::write(path, container.to_string()).expect("a file");
    let exchange = ExchangeConfig {
        cluster: "pointsman_sidecar".to_owned(),
        token: "geheim".to_owned(),
        verdict_ttl: Duration::from_secs(30),
    };
    let start = FileFeed::start(path.to_owned(), exchange);
    // On a thread without a runtime of its own.
    let started = std::thread::spawn(move || runtime().block_on(start)).join();
    started.expect("no panic").expect("a registry")
}

/// The editor of a registry that nobody reads.
pub fn editor_of_nothing() -> Editor {
    let folder = tempfile::tempdir().expect("a folder");
    Editor::File(open(&folder.path().join("c.json")).feed().editor())
}

/// Admin routes over a registry file.
pub struct Live {
    routes: Router,
    /// The registry file.
    pub file: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Live {
    /// Asked from this machine.
    pub fn start(token: Option<&str>) -> Self {
        Self::start_for(token, LOCAL)
    }

    /// The same, asked from this address.
    pub fn start_for(token: Option<&str>, peer: [u8; 4]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.json");
        let demo = open(&file);
        let registry = watch::Sender::new(Some(demo.registry()));
        let (status, wishes) = (watch::Sender::default(), watch::Sender::default());
        let health = watch::Sender::<Arc<HealthView>>::default();
        let gauges = Gauges {
            registry: registry.subscribe(),
            source: status.subscribe(),
            health: health.subscribe(),
            fleet: watch::Sender::default().subscribe(),
            proxies: watch::Sender::default().subscribe(),
            queue: watch::Sender::default().subscribe(),
        };
        let metrics = Metrics::new(EventCounts::default(), gauges);
        let admin = Admin {
            sources: Sources {
                environment: "test".to_owned(),
                source: "file".to_owned(),
                started: Instant::now(),
                registry: registry.subscribe(),
                source_status: status.subscribe(),
                health: health.subscribe(),
                trust: watch::Sender::default().subscribe(),
                fleet: watch::Sender::default().subscribe(),
                proxies: watch::Sender::default().subscribe(),
                queue: watch::Sender::default().subscribe(),
            },
            metrics: metrics.clone(),
            readiness: Readiness::default(),
            access: access(token),
            editor: Editor::File(demo.feed().editor()),
            reloads: Reloads::new(wishes.clone(), Some(demo.registry())),
            queue: Queue::Disabled,
            stop: CancellationToken::new(),
        };
        let output = Output {
            published: registry,
            status,
            events: Events::new(metrics),
            reloads: wishes.subscribe(),
        };
        let stop = CancellationToken::new();
        let child = stop.clone();
        let follow = async move {
            tokio::select! {
                () = child.cancelled() => {}
                () = demo.run(output) => {}
            }
        };
        let thread = std::thread::spawn(move || runtime().block_on(follow));
        let peer = MockConnectInfo(SocketAddr::from((peer, 5)));
        Live {
            routes: router(admin, true).layer(peer),
            file,
            stop,
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Asks; `lines` are header fields.
    pub async fn ask(
        &self,
        what: &str,
        lines: &[(&str, &str)],
        body: Value,
    ) -> (u16, Option<String>, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        self.ask_text(what, lines, body).await
    }

    /// The same with a body that may be no JSON.
    pub async fn ask_text(
        &self,
        what: &str,
        lines: &[(&str, &str)],
        body: String,
    ) -> (u16, Option<String>, Value) {
        let (method, path) = what.split_once(' ').expect("a method and a path");
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        let response = self.routes.clone().call(request).await.expect("a response");
        let (status, etag) = (response.status(), response.headers().get("etag").cloned());
        let body = to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        let body = serde_json::from_slice(&body).expect("JSON");
        let etag = etag.map(|etag| etag.to_str().expect("text").to_owned());
        (status.as_u16(), etag, body)
    }

    /// The backends that are served: `id state`.
    pub async fn served(&self) -> Vec<String> {
        let (_, _, body) = self.ask("GET /v1/clusters", &[], Value::Null).await;
        let clusters = body["clusters"].as_array().expect("clusters");
        let backends = clusters
            .iter()
            .flat_map(|it| it["backends"].as_array().expect("backends"));
        let shown = |it: &Value| format!("{} {}", it["id"], it["state"]).replace('"', "");
        backends.map(shown).collect()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.thread.take().map(JoinHandle::join));
    }
}
