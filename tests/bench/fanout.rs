//! One sidecar and many proxies: how long a change takes to reach all of them, and what each costs.
//!
//! The proxies are simulated ([`Proxy`]): a delta ADS stream each, and the exchange's long poll on a
//! connection of its own, as Envoy's workers have. They share this process, so what they cost does
//! not count, but it does take time from the sidecar: two cores for all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::proxy::{Poster, Proxy};
use harness::registry::Registry;
use harness::{Sidecar, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::figures::{percentile, rounded, tail};
use crate::machine;
use crate::profile::Profile;

const DEADLINE: Duration = Duration::from_secs(120);
/// The sidecar lets one change per half second leave.
const REST: Duration = Duration::from_millis(550);
/// How long the proxies do nothing but poll.
const IDLE: Duration = Duration::from_secs(3);
const PORT: u32 = 8080;

/// Follows changes at every size of the profile.
pub async fn run(profile: &Profile) -> Result<Map<String, Value>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The sidecar inherits it.
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut figures = Map::new();
    for &(proxies, clusters, backends) in profile.fleets {
        println!("  {proxies} proxies, {clusters} clusters of {backends} backends");
        let figure = follow(proxies, clusters, backends, profile.fleet_changes).await;
        let case = format!("{proxies}.{clusters}x{backends}");
        figures.insert(case.clone(), figure.with_context(|| case)?);
    }
    Ok(figures)
}

async fn follow(proxies: u32, clusters: u32, backends: u32, changes: usize) -> Result<Value> {
    let mut registry = Registry::new((0..clusters).map(|it| document(it, backends)).collect())?;
    let mut sidecar = Sidecar::start(&registry).await?;
    let begun = Instant::now();
    let mut fleet = Fleet::connect(sidecar.xds_address(), proxies).await?;
    fleet.until_all_left(0).await?;
    let connected = begun.elapsed();

    let pid = sidecar.process().pid();
    let (cpu, begun) = (machine::cpu_of(pid)?, Instant::now());
    sleep(IDLE).await;
    let idle = (machine::cpu_of(pid)? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();

    let mut last = fleet.revision()?;
    let (mut all, mut each) = (Vec::new(), Vec::new());
    let (cpu, begun, before) = (machine::cpu_of(pid)?, Instant::now(), fleet.counts());
    for change in 0..changes {
        sleep(REST).await;
        let written = Instant::now();
        move_a_backend(&mut registry, u32::try_from(change)?, backends)?;
        let seen = fleet.until_all_left(last).await?;
        let times = seen.iter().map(|at| (*at - written).as_secs_f64() * 1e3);
        let times: Vec<f64> = times.collect();
        all.push(times.iter().copied().fold(0.0, f64::max));
        each.extend(times);
        last = fleet.revision()?;
    }
    let busy = (machine::cpu_of(pid)? - cpu).as_secs_f64() - idle * begun.elapsed().as_secs_f64();
    let taken = fleet.counts().since(before);
    let resident = sidecar.process().resident()?;

    // All at once, with what they have: a resource is due to nobody but what changed meanwhile.
    let halted = fleet.halt().await?;
    sidecar.restart().await?;
    let begun = Instant::now();
    let mut fleet = Fleet::reconnect(sidecar.xds_address(), halted, last).await?;
    all_are_connected(&sidecar, proxies).await?;
    let back = begun.elapsed();
    let resent = fleet.counts();
    sleep(REST).await;
    move_a_backend(&mut registry, u32::try_from(changes)?, backends)?;
    fleet.until_all_left(last).await?;
    fleet.halt().await?;

    let share = f64::from(proxies) * changes as f64;
    let (tail, slowest) = tail(&mut each);
    Ok(json!({
        "changes": changes,
        "allP50Ms": percentile(&mut all, 0.5).map(rounded),
        "allMaxMs": percentile(&mut all, 1.0).map(rounded),
        "p50Ms": percentile(&mut each, 0.5).map(rounded),
        tail: slowest,
        "cpuUsPerProxy": rounded(busy.max(0.0) * 1e6 / share),
        "bytesPerProxy": rounded(taken.bytes as f64 / share),
        "idleUsPerProxySecond": rounded(idle * 1e6 / f64::from(proxies)),
        "residentMb": rounded(resident as f64 / 1e6),
        "connectMs": rounded(connected.as_secs_f64() * 1e3),
        "reconnectMs": rounded(back.as_secs_f64() * 1e3),
        "resentResources": resent.resources,
    }))
}

fn document(cluster: u32, backends: u32) -> Value {
    let backends: Vec<Value> = (0..backends)
        .map(|it| json!({"id": format!("b-{it}"), "address": address(cluster, it)}))
        .collect();
    json!({"name": name(cluster), "backends": backends})
}

fn name(cluster: u32) -> String {
    format!("cluster-{cluster}")
}

fn address(cluster: u32, backend: u32) -> String {
    format!("10.{}.{}.{backend}:{PORT}", cluster / 256, cluster % 256)
}

/// Each change gives another backend of the first cluster another address.
fn move_a_backend(registry: &mut Registry, change: u32, backends: u32) -> Result<()> {
    let place = (change % backends) as usize;
    registry.edit(&name(0), |document| {
        document["backends"][place]["address"] = format!("10.200.{change}.1:{PORT}").into();
    })
}

async fn all_are_connected(sidecar: &Sidecar, proxies: u32) -> Result<()> {
    eventually(DEADLINE, "all proxies to be connected", async || {
        let status = sidecar.status().await?;
        let known = status["proxies"].as_array().map_or(0, Vec::len);
        ensure!(known >= proxies as usize, "{known} of {proxies} are");
        Ok(())
    })
    .await
}

/// What a proxy has taken.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    resources: usize,
    bytes: usize,
}

impl Counts {
    fn plus(self, other: Counts) -> Counts {
        Counts {
            resources: self.resources + other.resources,
            bytes: self.bytes + other.bytes,
        }
    }

    fn since(self, before: Counts) -> Counts {
        Counts {
            resources: self.resources - before.resources,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// Where a proxy is: the revision of its filter, since when, and what it has taken so far.
#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    at: Instant,
    counts: Counts,
}

/// A task for each proxy, ended by dropping its line.
struct Fleet {
    tasks: JoinSet<Result<Proxy>>,
    lines: Vec<(watch::Receiver<Seen>, watch::Sender<()>)>,
}

impl Fleet {
    async fn connect(sidecar: SocketAddr, proxies: u32) -> Result<Self> {
        let mut connecting = JoinSet::new();
        for number in 0..proxies {
            let node = format!("proxy-{number}");
            connecting.spawn(async move { Proxy::connect(sidecar, &node).await });
        }
        let connected = all_of(connecting).await?;
        Ok(Self::start(sidecar, connected, 0))
    }

    async fn reconnect(sidecar: SocketAddr, proxies: Vec<Proxy>, revision: u64) -> Result<Self> {
        let mut connecting = JoinSet::new();
        for proxy in proxies {
            connecting.spawn(proxy.reconnect());
        }
        let connected = all_of(connecting).await?;
        Ok(Self::start(sidecar, connected, revision))
    }

    fn start(sidecar: SocketAddr, proxies: Vec<Proxy>, revision: u64) -> Self {
        let mut fleet = Fleet {
            tasks: JoinSet::new(),
            lines: Vec::new(),
        };
        for proxy in proxies {
            let (told, seen) = watch::channel(Seen {
                revision,
                at: Instant::now(),
                counts: Counts::default(),
            });
            let (stop, stopped) = watch::channel(());
            fleet.tasks.spawn(live(sidecar, proxy, told, stopped));
            fleet.lines.push((seen, stop));
        }
        fleet
    }

    /// Waits until every proxy runs another revision than this; since when each does.
    async fn until_all_left(&mut self, revision: u64) -> Result<Vec<Instant>> {
        let mut since = Vec::new();
        for (seen, _) in &mut self.lines {
            let waited = timeout(DEADLINE, seen.wait_for(|seen| seen.revision != revision)).await;
            let seen = waited.context("a proxy got no change in time")?;
            since.push(seen.context("a proxy has ended")?.at);
        }
        Ok(since)
    }

    /// The one revision that all proxies run.
    fn revision(&self) -> Result<u64> {
        let mut revisions = self.lines.iter().map(|(seen, _)| seen.borrow().revision);
        let first = revisions.next().context("there are no proxies")?;
        ensure!(revisions.all(|it| it == first), "proxies differ");
        Ok(first)
    }

    fn counts(&self) -> Counts {
        let counts = self.lines.iter().map(|(seen, _)| seen.borrow().counts);
        counts.fold(Counts::default(), Counts::plus)
    }

    /// Ends all tasks; the proxies, whose streams stay open.
    async fn halt(mut self) -> Result<Vec<Proxy>> {
        self.lines.clear();
        all_of(self.tasks).await
    }
}

async fn all_of(mut ending: JoinSet<Result<Proxy>>) -> Result<Vec<Proxy>> {
    let mut proxies = Vec::new();
    while let Some(proxy) = ending.join_next().await {
        proxies.push(proxy??);
    }
    Ok(proxies)
}

/// Takes what comes and posts to the exchange, until `stopped` is gone.
async fn live(
    sidecar: SocketAddr,
    mut proxy: Proxy,
    told: watch::Sender<Seen>,
    mut stopped: watch::Receiver<()>,
) -> Result<Proxy> {
    // Dropped, and with it the poll, at the end.
    let mut polls = JoinSet::new();
    polls.spawn(poll(Poster::new(sidecar, proxy.node()), told.subscribe()));
    loop {
        tokio::select! {
            _ = stopped.changed() => return Ok(proxy),
            ended = polls.join_next() => {
                ended.context("no poll")??.context("the exchange")?;
            }
            taken = proxy.next() => {
                let taken = taken?;
                told.send_modify(|seen| {
                    seen.counts = seen.counts.plus(Counts {
                        resources: taken.resources,
                        bytes: taken.bytes,
                    });
                    if let Some(revision) = taken.revision {
                        (seen.revision, seen.at) = (revision, Instant::now());
                    }
                });
            }
        }
    }
}

/// Polls as a filter does: the next post as soon as the last is answered.
async fn poll(mut poster: Poster, seen: watch::Receiver<Seen>) -> Result<()> {
    loop {
        let revision = seen.borrow().revision;
        poster.post(revision).await?;
    }
}
