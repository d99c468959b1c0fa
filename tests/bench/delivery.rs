//! How long news takes to every worker: an edit of the registry, a verdict of the sidecar.
//!
//! A client pinned to each worker asks again and again with a sticky cookie. The news moves what the
//! cookie means to another backend, so the first answer from there says that the worker obeys.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::{self, Client};
use harness::process::Process;
use harness::{Bootstrap, Envoy, Sidecar, eventually};
use hyper::header::{COOKIE, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::contender::CLUSTER;
use crate::figures::{percentile, rounded};
use crate::home::Home;
use crate::machine::{self, Cores};
use crate::profile::Profile;
use crate::responder::Responder;

const WORKERS: u32 = 2;
const DEADLINE: Duration = Duration::from_secs(20);
/// The sidecar lets one change per half second leave: an edit after a longer rest is measured
/// without waiting for the pace.
const REST: Duration = Duration::from_millis(550);
/// Edits that are only weighed: bytes, worker time, memory.
const WEIGHED: u32 = 20;
const COOKIE_LINE: &str = "POINTSMAN=moving";

/// Follows edits at every size of the profile.
pub async fn edits(profile: &Profile, cores: Cores) -> Result<Map<String, Value>> {
    let mut figures = Map::new();
    for (backends, edits) in profile.edits {
        println!("  {edits} edits of a registry of {backends} backends");
        let figure = follow_demo(*backends, *edits, profile, cores).await;
        figures.insert(
            format!("demo.{backends}"),
            figure.with_context(|| format!("{backends} backends"))?,
        );
    }
    Ok(figures)
}

async fn follow_demo(
    backends: u32,
    edits: usize,
    profile: &Profile,
    cores: Cores,
) -> Result<Value> {
    let responder = Responder::start(cores.others).await?;
    let home = Home::file(document(&responder, backends))?;
    let mut stage = Stage::start(home, responder).await?;
    let mut figure = stage.follow(edits).await?;
    let (bytes, worker_ms) = stage.weigh(profile).await?;
    figure["bytes"] = rounded(bytes).into();
    figure["workerMs"] = rounded(worker_ms).into();
    Ok(figure)
}

/// Follows isolated changes of a registry of 1,000 backends in Redis.
pub async fn redis(profile: &Profile, cores: Cores) -> Result<Value> {
    println!("  {} changes in Redis", profile.changes);
    let responder = Responder::start(cores.others).await?;
    let home = Home::redis(document(&responder, 1000)).await?;
    let mut stage = Stage::start(home, responder).await?;
    stage.follow(profile.changes).await
}

/// The same in Kubernetes; `None`: there is no API server here.
pub async fn kubernetes(profile: &Profile, cores: Cores) -> Result<Option<Value>> {
    println!("  {} changes in Kubernetes", profile.changes);
    let responder = Responder::start(cores.others).await?;
    let Some(home) = Home::kubernetes(document(&responder, 1000)).await? else {
        return Ok(None);
    };
    let mut stage = Stage::start(home, responder).await?;
    Ok(Some(stage.follow(profile.changes).await?))
}

/// A sidecar on a registry, and an Envoy that it steers.
pub struct Stage {
    envoy: Envoy,
    _sidecar: Sidecar,
    home: Home,
    responder: Responder,
    /// Which backend the cookie means: 0 or 1.
    moved_to: u32,
}

impl Stage {
    async fn start(home: Home, responder: Responder) -> Result<Self> {
        Self::start_with(home, responder, &[]).await
    }

    /// The sidecar is given these settings beside those of its store.
    pub async fn start_with(
        home: Home,
        responder: Responder,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let sidecar = home.sidecar(settings).await?;
        let bootstrap = Bootstrap::ads(sidecar.xds_address())?
            .concurrency(WORKERS)
            .exact_balance()?;
        let envoy = Envoy::start(bootstrap).await?;
        Ok(Stage {
            envoy,
            _sidecar: sidecar,
            home,
            responder,
            moved_to: 0,
        })
    }

    async fn follow(&mut self, edits: usize) -> Result<Value> {
        let clients = self.envoy.pinned_clients().await?;
        let mut watchers = Watchers::start(clients, &self.answers_from(0)).await?;
        let (mut written, mut obeyed) = (Vec::new(), Vec::new());
        for _ in 0..edits {
            sleep(REST).await;
            let news = self.answers_from(1 - self.moved_to);
            let begun = Instant::now();
            self.move_the_cookie().await?;
            written.push(begun.elapsed().as_secs_f64() * 1e3);
            let seen = watchers.until_all_see(&news).await?;
            obeyed.push((seen - begun).as_secs_f64() * 1e3);
        }
        watchers.stop().await;
        Ok(json!({
            "p50Ms": percentile(&mut obeyed, 0.5).map(rounded),
            "p99Ms": percentile(&mut obeyed, 0.99).map(rounded),
            "writeP50Ms": percentile(&mut written, 0.5).map(rounded),
            "writeP99Ms": percentile(&mut written, 0.99).map(rounded),
            "updates": edits,
        }))
    }

    /// Bytes and one worker's milliseconds per update, while nobody asks the workers anything.
    async fn weigh(&mut self, profile: &Profile) -> Result<(f64, f64)> {
        let updates = if profile.quick { WEIGHED / 4 } else { WEIGHED };
        let pid = self.envoy.process().pid();
        let workers = || machine::cpu_of_threads(pid, "wrk:");
        // Ticks and exchanges go on without updates: their time and bytes are taken off.
        let (cpu, bytes, begun) = (workers()?, self.received().await?, Instant::now());
        sleep(REST * updates).await;
        let idle_cpu = (workers()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        let idle_bytes = (self.received().await? - bytes) as f64 / begun.elapsed().as_secs_f64();
        let (cpu, bytes, begun) = (workers()?, self.received().await?, Instant::now());
        for _ in 0..updates {
            self.update().await?;
            sleep(REST).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = (workers()? - cpu).as_secs_f64() - idle_cpu * seconds;
        let bytes = (self.received().await? - bytes) as f64 - idle_bytes * seconds;
        let updates = f64::from(updates);
        let worker_ms = cpu.max(0.0) * 1e3 / updates / f64::from(WORKERS);
        Ok((bytes.max(0.0) / updates, worker_ms))
    }

    /// Makes an edit and waits until Envoy has it.
    pub async fn update(&mut self) -> Result<()> {
        let before = self.reloads().await?;
        self.move_the_cookie().await?;
        eventually(DEADLINE, "the update to arrive", async || {
            ensure!(self.reloads().await? > before, "not yet");
            Ok(())
        })
        .await
    }

    /// Envoy's process.
    pub fn envoy(&self) -> &Process {
        self.envoy.process()
    }

    /// Bytes from the sidecar: xDS and the exchange.
    async fn received(&self) -> Result<u64> {
        let name = "cluster.pointsman_sidecar.upstream_cx_rx_bytes_total";
        self.envoy.stat(name).await
    }

    async fn reloads(&self) -> Result<u64> {
        let suffix = "http_filter.pointsman.config_reload";
        let stats = self.envoy.stats().await?;
        let mut found = stats.iter().filter(|(name, _)| name.ends_with(suffix));
        Ok(found.next().map_or(0, |(_, count)| *count))
    }

    async fn move_the_cookie(&mut self) -> Result<()> {
        let to = 1 - self.moved_to;
        let ids = [format!("{CLUSTER}-0"), format!("{CLUSTER}-1")];
        let change = |document: &mut Value| {
            for (index, id) in (0..).zip(&ids) {
                let backends = document["backends"].as_array_mut().into_iter().flatten();
                for backend in backends.filter(|backend| backend["id"] == **id) {
                    let said = if index == to { "moving" } else { "other" };
                    backend["stickyId"] = said.into();
                }
            }
        };
        self.home.edit(change).await?;
        self.moved_to = to;
        Ok(())
    }

    fn answers_from(&self, backend: u32) -> String {
        self.responder.address(backend).ip().to_string()
    }
}

/// A cluster of so many backends, the first two of which a cookie can mean.
pub fn document(responder: &Responder, backends: u32) -> Value {
    let backend = |i: u32| {
        let mut backend = json!({
            "id": format!("{CLUSTER}-{i}"), "address": responder.address(i).to_string(),
        });
        if i < 2 {
            backend["stickyId"] = ["moving", "other"][i as usize].into();
        }
        backend
    };
    let backends: Vec<Value> = (0..backends).map(backend).collect();
    json!({"name": CLUSTER, "sticky": {"cookie": "POINTSMAN"}, "backends": backends})
}

/// One client per worker, each asking every millisecond or so, and telling who answers. Not as fast
/// as can be: with every core busy, the news would wait for a core.
pub struct Watchers {
    tasks: JoinSet<()>,
    seen: Vec<tokio::sync::watch::Receiver<(String, Instant)>>,
}

impl Watchers {
    /// Starts asking; waits until every worker's answers come from `backend`.
    pub async fn start(clients: Vec<Client>, backend: &str) -> Result<Self> {
        let mut watchers = Watchers {
            tasks: JoinSet::new(),
            seen: Vec::new(),
        };
        for client in clients {
            let now = (String::new(), Instant::now());
            let (told, seen) = tokio::sync::watch::channel(now);
            watchers.tasks.spawn(ask(client, told));
            watchers.seen.push(seen);
        }
        watchers.until_all_see(backend).await?;
        Ok(watchers)
    }

    /// Waits until the answers of all workers come from `backend`; since when they do.
    pub async fn until_all_see(&mut self, backend: &str) -> Result<Instant> {
        let mut latest: Option<Instant> = None;
        for seen in &mut self.seen {
            let waited = seen.wait_for(|(answered, _)| answered == backend);
            let found = tokio::time::timeout(DEADLINE, waited).await;
            let found = found.with_context(|| format!("no answer from {backend} came"))?;
            let since = found.context("a client has ended")?.1;
            latest = Some(latest.map_or(since, |latest| latest.max(since)));
        }
        latest.context("there are no workers")
    }

    /// Stops asking.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Time from an answer to the next question.
const PAUSE: Duration = Duration::from_millis(1);

/// Tells of every change of the backend that answers, with the time of the first such answer.
async fn ask(mut client: Client, told: tokio::sync::watch::Sender<(String, Instant)>) {
    loop {
        let mut request = client::get("/");
        let cookie = HeaderValue::from_static(COOKIE_LINE);
        request.headers_mut().insert(COOKIE, cookie);
        // A worker that answers nobody is seen by the deadline of who waits for news.
        let Ok(response) = client.send(request).await else {
            return;
        };
        let backend = response.backend().unwrap_or_default();
        told.send_if_modified(|(last, since)| {
            let is_news = last != backend;
            if is_news {
                (*last, *since) = (backend.to_owned(), Instant::now());
            }
            is_news
        });
        sleep(PAUSE).await;
    }
}
