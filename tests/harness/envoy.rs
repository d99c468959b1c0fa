//! A real Envoy, started from a shipped bootstrap.

mod bootstrap;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use hyper::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime;
use tokio::time::timeout;

pub use bootstrap::Bootstrap;
pub use log::Event;

use crate::artefacts;
use crate::client::{self, Client};
use crate::clock::Clock;
use crate::port::Port;
use crate::process::Process;
use crate::report;
use crate::wait::eventually;

/// Longer than the two fetch timeouts of a start without sidecar, on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Ticks, polls and flushes are far more frequent.
const STAT_DEADLINE: Duration = Duration::from_secs(20);
/// For the last look at its stats; its main thread may be busy.
const LAST_LOOK_DEADLINE: Duration = Duration::from_secs(10);

/// A running Envoy; dropping it kills it, and panics when a VM of it has died or when it has ended
/// otherwise than it was asked to.
#[derive(Debug)]
pub struct Envoy {
    // Before the ports and the folder: dropped first.
    process: Process,
    listener: Port,
    admin: Port,
    workers: u32,
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    /// Whether [`Envoy::start`] has given it to a story: until then it says itself what is wrong.
    started: bool,
    traps_expected: bool,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let reloads = self.ensure_no_reload();
        self.process.kill();
        if !self.started || thread::panicking() {
            return;
        }
        let whole = reloads.and_then(|()| self.process.ensure_good_end());
        if let Err(fault) = whole.and_then(|()| self.ensure_no_trap_in_log()) {
            panic!("{fault:#}");
        }
    }
}

impl Envoy {
    /// Starts it and waits until every worker takes requests.
    ///
    /// Fails with the end of Envoy's log when Envoy refuses the bootstrap or is not ready in time.
    pub async fn start(bootstrap: Bootstrap) -> Result<Self> {
        Self::start_in(bootstrap, Vec::new()).await
    }

    /// The same by a clock that the story moves.
    pub async fn start_by(bootstrap: Bootstrap, clock: &Clock) -> Result<Self> {
        Self::start_in(bootstrap, clock.environment().to_vec()).await
    }

    async fn start_in(
        bootstrap: Bootstrap,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let (listener, admin) = (Port::reserve()?, Port::reserve()?);
        let workers = bootstrap.workers();
        let folder = tempfile::tempdir()?;
        let config = bootstrap.finish(listener.address(), admin.address())?;
        fs::write(folder.path().join("envoy.json"), config)?;
        let process = launch(&folder, workers, &environment)?;
        let mut envoy = Envoy {
            process,
            listener,
            admin,
            workers,
            folder,
            environment,
            started: false,
            traps_expected: false,
        };
        envoy.ready().await?;
        envoy.started = true;
        Ok(envoy)
    }

    /// From now on VMs of it may die: the story lets them, by the module that obeys `x-fault`.
    pub fn expect_traps(&mut self) {
        self.traps_expected = true;
    }

    /// Kills it and starts it again: same addresses, same bootstrap, same log.
    pub async fn restart(&mut self) -> Result<()> {
        self.ensure_no_reload()?;
        self.process.kill();
        self.process.ensure_good_end()?;
        self.process = launch(&self.folder, self.workers, &self.environment)?;
        self.ready().await
    }

    /// Stops it in good order (SIGTERM) and waits for its end; fails unless the exit code is 0.
    pub async fn stop(self) -> Result<()> {
        self.ensure_no_reload()?;
        self.process.signal(Signal::SIGTERM)?;
        self.process.exit(STOP_DEADLINE).await?;
        self.process.ensure_good_end()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Its admin address, for people.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// A new client of the listener.
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// One client per worker, each pinned to its own; needs [`Bootstrap::exact_balance`].
    ///
    /// Fails when a worker got none: other connections were open, or the balance is not exact.
    pub async fn pinned_clients(&self) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..self.workers {
            let mut client = self.client();
            client.connect().await?;
            clients.push(client);
        }
        eventually(STAT_DEADLINE, "one connection on each worker", async || {
            let held = self.connections_by_worker().await?;
            ensure!(
                held.values().all(|count| *count == 1),
                "connections by worker: {held:?}"
            );
            Ok(())
        })
        .await?;
        Ok(clients)
    }

    /// Open downstream connections of each worker, by its name (`worker_0`).
    pub async fn connections_by_worker(&self) -> Result<BTreeMap<String, u64>> {
        let stats = self.stats("worker_.*downstream_cx_active$").await?;
        let by_worker = stats.into_iter().filter_map(|(name, value)| {
            let (_, worker) = name
                .strip_suffix(".downstream_cx_active")?
                .rsplit_once('.')?;
            let of_listener = name.starts_with("listener.") && !name.starts_with("listener.admin");
            (of_listener && worker.starts_with("worker_")).then(|| (worker.to_owned(), value))
        });
        Ok(by_worker.collect())
    }

    /// The process: its id, CPU time, signals, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The filter's events in the log so far, over restarts.
    pub fn events(&self) -> Vec<Event> {
        log::events(&self.process.log())
    }

    /// Waits until the filter has logged so many events of this name and no more, and gives them.
    pub async fn wait_for_events(&self, name: &str, count: usize) -> Result<Vec<Event>> {
        let what = format!("{count} events {name} in Envoy's log");
        eventually(STAT_DEADLINE, &what, async || {
            let mut events = self.events();
            events.retain(|event| event.name() == name);
            ensure!(events.len() == count, "{events:?}");
            Ok(events)
        })
        .await
    }

    /// How many events of this name there were for this cluster.
    pub fn count_events(&self, name: &str, cluster: &str) -> usize {
        let is_it = |event: &&Event| event.name() == name && event.field("cluster") == cluster;
        self.events().iter().filter(is_it).count()
    }

    /// The counters and gauges whose full names this regular expression finds. Envoy picks them: with a
    /// thousand clusters its main thread writes ten megabytes for a look at all.
    pub async fn stats(&self, names: &str) -> Result<BTreeMap<String, u64>> {
        let names = names.bytes().map(|byte| format!("%{byte:02X}"));
        let path = format!("/stats?filter={}", names.collect::<String>());
        let text = self.admin_get(&path).await?;
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(number).collect())
    }

    /// A stat's value. Envoy 1.37 keeps a module's own under the cluster that loaded it first.
    fn value_of(stats: &BTreeMap<String, u64>, name: &str) -> Option<u64> {
        let moved = format!(".{name}");
        let is_there = |known: &str| name.starts_with("wasmcustom.") && known.ends_with(&moved);
        let mut values = stats.iter().filter(|(known, _)| is_there(known));
        let elsewhere = || values.next().map(|(_, value)| *value);
        stats.get(name).copied().or_else(elsewhere)
    }

    /// One counter or gauge as it is now; 0 when Envoy does not know it (yet).
    ///
    /// Only for what must not have happened and for what a later value is compared with. Whatever
    /// comes with a tick, a stream's end or another thread is waited for.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        // A dot finds more than dots, and is compared with the full name below.
        let stats = self.stats(&format!("{name}$")).await?;
        Ok(Self::value_of(&stats, name).unwrap_or_default())
    }

    /// Waits until a counter or gauge is this.
    pub async fn wait_for_stat(&self, name: &str, wanted: u64) -> Result<()> {
        let what = format!("{name} to be {wanted}");
        eventually(STAT_DEADLINE, &what, async || {
            let value = self.stat(name).await?;
            ensure!(value == wanted, "{value}");
            Ok(())
        })
        .await
    }

    /// Waits until a counter or gauge is this or more, and gives it.
    pub async fn wait_for_stat_at_least(&self, name: &str, least: u64) -> Result<u64> {
        let what = format!("{name} to be {least} or more");
        eventually(STAT_DEADLINE, &what, async || {
            let value = self.stat(name).await?;
            ensure!(value >= least, "{value}");
            Ok(value)
        })
        .await
    }

    /// The stats as a Prometheus server reads them, labels by the shipped `stats_tags`.
    pub async fn prometheus(&self) -> Result<String> {
        self.admin_get("/stats/prometheus").await
    }

    /// `/clusters`: each cluster with its hosts.
    pub async fn clusters(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.admin_get("/clusters?format=json").await?,
        )?)
    }

    /// The addresses of a cluster's hosts as Envoy prints them; `None` for an unknown cluster.
    pub async fn hosts(&self, cluster: &str) -> Result<Option<Vec<String>>> {
        let clusters = self.clusters().await?;
        let statuses = clusters["cluster_statuses"]
            .as_array()
            .context("no cluster_statuses")?;
        let Some(status) = statuses.iter().find(|status| status["name"] == cluster) else {
            return Ok(None);
        };
        let hosts = status["host_statuses"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let address = |host: &Value| {
            let address = &host["address"]["socket_address"];
            format!(
                "{}:{}",
                address["address"].as_str().unwrap_or("?"),
                address["port_value"]
            )
        };
        Ok(Some(hosts.iter().map(address).collect()))
    }

    /// `/config_dump`, endpoints included.
    pub async fn config_dump(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.admin_get("/config_dump?include_eds").await?,
        )?)
    }

    /// Any page of the admin interface; fails on anything but 200.
    pub async fn admin_get(&self, path: &str) -> Result<String> {
        self.admin(Method::GET, path).await
    }

    /// Any command of the admin interface, such as `/drain_listeners?graceful`.
    pub async fn admin_post(&self, path: &str) -> Result<String> {
        self.admin(Method::POST, path).await
    }

    async fn admin(&self, method: Method, path: &str) -> Result<String> {
        let mut client = Client::new(self.admin.address());
        let response = client
            .send(client::request(method, path, Bytes::new()))
            .await?;
        ensure!(
            response.status == 200,
            "{path}: {} {}",
            response.status,
            response.text()
        );
        Ok(response.text())
    }

    /// Fails when a VM has died and was started again, or could not be; while it runs.
    fn ensure_no_reload(&self) -> Result<()> {
        if self.traps_expected || self.process.ended().is_some() || self.process.is_frozen() {
            return Ok(());
        }
        let look = || -> Result<BTreeMap<String, u64>> {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let stats = async { timeout(LAST_LOOK_DEADLINE, self.stats("vm_reload")).await };
            runtime.block_on(stats)?
        };
        // A thread of its own: whoever drops an Envoy may be inside a runtime.
        let stats = thread::scope(|scope| scope.spawn(look).join());
        let mut stats = stats.map_err(|_| anyhow!("the look at the stats panicked"))??;
        stats.retain(|_, count| *count > 0);
        ensure!(stats.is_empty(), "a VM died: {stats:?}");
        Ok(())
    }

    /// Fails when the log tells of a VM's end; also of one that nothing has started again.
    fn ensure_no_trap_in_log(&self) -> Result<()> {
        let mut told = log::traps(&self.process.log());
        told.extend(self.process.panics());
        ensure!(
            self.traps_expected || told.is_empty(),
            "a VM died: {told:#?}"
        );
        Ok(())
    }

    async fn ready(&self) -> Result<()> {
        let ready = eventually(
            READY_DEADLINE,
            "Envoy to be LIVE and to listen",
            async || {
                // Nobody waits for a dead process: this inner error is what ends the wait.
                if let Err(dead) = self.process.ensure_running() {
                    return Ok(Err(dead));
                }
                self.admin_get("/ready").await?;
                let listeners = self.admin_get("/listeners?format=json").await?;
                let port = format!("\"port_value\": {}", self.address().port());
                ensure!(listeners.contains(&port), "listeners: {listeners}");
                Ok(Ok(()))
            },
        );
        ready
            .await
            .with_context(|| format!("log:\n{}", self.process.log_tail()))?
    }
}

fn launch(folder: &TempDir, workers: u32, environment: &[(&str, String)]) -> Result<Process> {
    report::component(&format!("Envoy {}", artefacts::envoy_version()?));
    let mut command = Command::new(artefacts::envoy()?);
    command
        .current_dir(folder.path())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .args(["--config-path", "envoy.json", "--log-level", "warning"])
        .args(["--component-log-level", "wasm:info"])
        // No shared memory: many Envoys at a time, and nothing left behind by a killed one.
        .arg("--disable-hot-restart")
        .args(["--concurrency", &workers.to_string()]);
    Process::start(command, &folder.path().join("envoy.log"))
}
