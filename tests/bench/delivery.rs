//! How long news takes to every worker: an edit of the registry, a verdict of the sidecar.
//!
//! A client pinned to each worker asks again and again with a sticky cookie. The news moves what the
//! cookie means to another backend, so the first answer from there says that the worker obeys.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::{self, Client};
use harness::process::Process;
use harness::{Bootstrap, Envoy, Kind, Kubernetes, Sidecar, eventually};
use hyper::header::{COOKIE, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::contender::CLUSTER;
use crate::figures::{percentile, rounded, tail};
use crate::home::Home;
use crate::machine::{self, Cores};
use crate::profile::Profile;
use crate::responder::Responder;

const WORKERS: u32 = 2;
const DEADLINE: Duration = Duration::from_secs(20);
/// The sidecar lets one change per half second leave: an edit after a longer rest is measured
/// without waiting for the pace.
const REST: Duration = Duration::from_millis(550);
/// Of a file the changes may follow each other faster: nothing is written back, so that once all workers
/// obey an edit nobody is at work any more.
const FILE_PACE: [(&str, &str); 1] = [("POINTSMAN_CHANGE_INTERVAL", "100ms")];
const FILE_REST: Duration = Duration::from_millis(250);
/// Edits that are only weighed: bytes, worker time, memory.
const WEIGHED: u32 = 30;
/// Backends of one cluster of many.
const PART: u32 = 100;
const COOKIE_LINE: &str = "POINTSMAN=moving";

/// Follows edits at every size of the profile.
pub async fn edits(profile: &Profile, cores: Cores) -> Result<Map<String, Value>> {
    let mut figures = Map::new();
    for (backends, edits) in profile.edits {
        println!("  {edits} edits of a registry of {backends} backends");
        let figure = follow_demo((*backends, *backends), *edits, profile, cores).await;
        figures.insert(
            format!("demo.{backends}"),
            figure.with_context(|| format!("{backends} backends"))?,
        );
    }
    for (backends, edits) in profile.parts {
        println!("  {edits} edits of one cluster of {PART} backends among {backends}");
        let figure = follow_demo((PART, *backends), *edits, profile, cores).await;
        let case = format!("clusters.{backends}");
        figures.insert(case.clone(), figure.context(case)?);
    }
    Ok(figures)
}

/// Follows edits of one cluster of `part` backends, in a registry of `all` in clusters like it.
async fn follow_demo(
    (part, all): (u32, u32),
    edits: usize,
    profile: &Profile,
    cores: Cores,
) -> Result<Value> {
    let responder = Responder::start(cores.others).await?;
    let other = |number: u32| {
        let mut other = document(&responder, part);
        other["name"] = format!("other-{number}").into();
        other
    };
    let others: Vec<Value> = (1..all / part).map(other).collect();
    let home = Home::beside(Kind::File, document(&responder, part), &others).await?;
    let mut stage = Stage::start_with(home, responder, &FILE_PACE).await?;
    let mut figure = stage.follow(edits, FILE_REST).await?;
    let weight = stage.weigh(profile).await?;
    figure["bytes"] = weight.bytes.map(rounded).into();
    figure["workerMs"] = weight.worker_ms.map(rounded).into();
    figure["mainMs"] = weight.main_ms.map(rounded).into();
    Ok(figure)
}

#[derive(Clone, Copy)]
struct Spent {
    workers: f64,
    main: f64,
    bytes: f64,
}

impl Spent {
    fn since(self, before: Spent) -> Spent {
        Spent {
            workers: self.workers - before.workers,
            main: self.main - before.main,
            bytes: self.bytes - before.bytes,
        }
    }

    fn and(self, other: Spent) -> Spent {
        Spent {
            workers: self.workers + other.workers,
            main: self.main + other.main,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// What an update costs; absent where it is lost in what goes on without updates.
struct Weight {
    bytes: Option<f64>,
    /// One worker's CPU time.
    worker_ms: Option<f64>,
    /// The main thread's: it reads the update, and tries the filter's configuration in the canary.
    main_ms: Option<f64>,
}

/// Follows isolated changes of a registry of 1,000 backends in Redis.
pub async fn redis(profile: &Profile, cores: Cores) -> Result<Value> {
    println!("  {} changes in Redis", profile.changes);
    let responder = Responder::start(cores.others).await?;
    let home = Home::new(Kind::Redis, document(&responder, 1000)).await?;
    let mut stage = Stage::start(home, responder).await?;
    stage.follow(profile.changes, REST).await
}

/// The same in Kubernetes; `None`: there is no API server here.
pub async fn kubernetes(profile: &Profile, cores: Cores) -> Result<Option<Value>> {
    println!("  {} changes in Kubernetes", profile.changes);
    if !Kubernetes::is_there("bench")? {
        return Ok(None);
    }
    let responder = Responder::start(cores.others).await?;
    let home = Home::new(Kind::Kubernetes, document(&responder, 1000)).await?;
    let mut stage = Stage::start(home, responder).await?;
    Ok(Some(stage.follow(profile.changes, REST).await?))
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

    async fn follow(&mut self, edits: usize, rest: Duration) -> Result<Value> {
        let clients = self.envoy.pinned_clients().await?;
        let mut watchers = Watchers::start(clients, &self.answers_from(0)).await?;
        let (mut written, mut obeyed) = (Vec::new(), Vec::new());
        for _ in 0..edits {
            sleep(rest).await;
            let news = self.answers_from(1 - self.moved_to);
            let begun = Instant::now();
            self.move_the_cookie().await?;
            written.push(begun.elapsed().as_secs_f64() * 1e3);
            let seen = watchers.until_all_see(&news).await?;
            obeyed.push((seen - begun).as_secs_f64() * 1e3);
        }
        watchers.stop().await;
        let (tail, slowest) = tail(&mut obeyed);
        Ok(json!({
            "p50Ms": percentile(&mut obeyed, 0.5).map(rounded),
            tail: slowest,
            "writeP50Ms": percentile(&mut written, 0.5).map(rounded),
            "writeMaxMs": percentile(&mut written, 1.0).map(rounded),
            "updates": edits,
        }))
    }

    /// What one update costs, while nobody asks the workers anything.
    async fn weigh(&mut self, profile: &Profile) -> Result<Weight> {
        let updates = if profile.quick { WEIGHED / 4 } else { WEIGHED };
        let rest = FILE_REST * updates / 2;
        let (before, idle_before) = self.idle(rest).await?;
        let begun = Instant::now();
        for _ in 0..updates {
            self.update().await?;
            sleep(FILE_REST).await;
        }
        let share = begun.elapsed().as_secs_f64() / (2.0 * rest.as_secs_f64());
        let spent = self.spent().await?.since(before);
        let idle = self.idle(rest).await?.1.and(idle_before);
        let each = |spent: f64, idle: f64| {
            let more = spent - idle * share;
            (more > 0.0).then(|| more / f64::from(updates))
        };
        let worker = each(spent.workers, idle.workers);
        Ok(Weight {
            bytes: each(spent.bytes, idle.bytes),
            worker_ms: worker.map(|seconds| seconds * 1e3 / f64::from(WORKERS)),
            main_ms: each(spent.main, idle.main).map(|seconds| seconds * 1e3),
        })
    }

    /// What was spent until now, and the part of it while nothing changed: ticks and exchanges, which go on
    /// beside updates too.
    async fn idle(&self, time: Duration) -> Result<(Spent, Spent)> {
        let before = self.spent().await?;
        sleep(time).await;
        let now = self.spent().await?;
        Ok((now, now.since(before)))
    }

    /// Bytes from the sidecar, and CPU time in seconds, so far.
    async fn spent(&self) -> Result<Spent> {
        let pid = self.envoy.process().pid();
        let threads =
            |prefix| Ok::<_, anyhow::Error>(machine::cpu_of_threads(pid, prefix)?.as_secs_f64());
        Ok(Spent {
            workers: threads("wrk:")?,
            main: threads("envoy")?,
            bytes: self.received().await? as f64,
        })
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
        let name = "http_filter.pointsman.config_reload$";
        Ok(self.envoy.stats(name).await?.values().sum())
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
