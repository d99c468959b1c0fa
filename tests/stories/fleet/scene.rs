//! The usual scene: backends, a registry file, the sidecar, and an Envoy with two workers whose
//! connections are dealt out evenly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::client::{Client, get};
use harness::registry::cluster;
use harness::{Bootstrap, Envoy, Registry, Sidecar, Upstream, eventually, throughout};
use serde_json::{Value, json};

pub use crate::scene::{CLUSTER, SOON, backends};
use crate::scene::{figure, wait_for_figure};

/// Workers of every scene's Envoy.
pub const WORKERS: u32 = 2;

/// Everything that runs; dropped in this order.
pub struct Scene {
    pub envoy: Envoy,
    pub sidecar: Sidecar,
    pub registry: Registry,
}

/// What may differ from the usual scene.
#[derive(Default)]
pub struct Unusual<'a> {
    /// Settings of the sidecar.
    pub settings: &'a [(&'a str, &'a str)],
    /// The stories' own module, which obeys `x-fault`, in place of `pointsman.wasm`.
    pub faulty: bool,
}

impl Scene {
    /// With these documents and nothing unusual.
    pub async fn start(clusters: Vec<Value>) -> Result<Self> {
        Self::start_with(clusters, Unusual::default()).await
    }

    /// With the module that obeys `x-fault`.
    pub async fn faulty(clusters: Vec<Value>) -> Result<Self> {
        let unusual = Unusual {
            faulty: true,
            ..Unusual::default()
        };
        Self::start_with(clusters, unusual).await
    }

    /// With what is unusual.
    pub async fn start_with(clusters: Vec<Value>, unusual: Unusual<'_>) -> Result<Self> {
        let registry = Registry::new(clusters)?;
        let mut settings = unusual.settings.to_vec();
        let module = artefacts::built("faulty.wasm")?;
        if unusual.faulty {
            let module = module.to_str().context("the module's path is not text")?;
            settings.push(("POINTSMAN_WASM", module));
        }
        let sidecar = Sidecar::start_with(&registry, &settings).await?;
        let mut bootstrap = bootstrap(&sidecar)?;
        if unusual.faulty {
            bootstrap = bootstrap.module(&module)?;
        }
        Ok(Scene {
            envoy: Envoy::start(bootstrap).await?,
            sidecar,
            registry,
        })
    }

    /// One client per worker, each with an answered request behind it; then both workers report.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        let mut clients = self.envoy.pinned_clients().await?;
        for client in &mut clients {
            client.get("/").await?;
        }
        self.wait_for_the_workers().await?;
        Ok(clients)
    }

    /// Waits until every worker that serves runs what the sidecar serves.
    pub async fn wait_for_the_workers(&self) -> Result<()> {
        wait_for_the_workers(&self.sidecar).await
    }

    /// Changes the registry, and waits until every worker runs the change; says how long that took.
    pub async fn edit(
        &mut self,
        change: impl FnOnce(&mut Registry) -> Result<()>,
    ) -> Result<Duration> {
        let before = revision(&self.sidecar).await?;
        let start = Instant::now();
        change(&mut self.registry)?;
        eventually(SOON, "the sidecar to serve the edit", async || {
            let now = revision(&self.sidecar).await?;
            ensure!(now != before, "still {now}");
            Ok(())
        })
        .await?;
        self.wait_for_the_workers().await?;
        Ok(start.elapsed())
    }

    /// One of the filter's counters or gauges for [`CLUSTER`] as it is now; `reason` may be empty.
    pub async fn figure(&self, name: &str, reason: &str) -> Result<u64> {
        figure(&self.envoy, name, reason).await
    }

    /// Waits until such a figure is this.
    pub async fn wait_for_figure(&self, name: &str, reason: &str, wanted: u64) -> Result<()> {
        wait_for_figure(&self.envoy, name, reason, wanted).await
    }

    /// A figure of the whole filter as it is now.
    pub async fn whole(&self, name: &str) -> Result<u64> {
        self.envoy.stat(&whole_name(name)).await
    }

    /// Waits until such a figure is this or more, and gives it.
    pub async fn wait_for_whole(&self, name: &str, least: u64) -> Result<u64> {
        let name = whole_name(name);
        self.envoy.wait_for_stat_at_least(&name, least).await
    }

    /// How long the filters need for so many exchanges that bring no news: one poster holds each
    /// for a second, so that every further poster would make it shorter.
    pub async fn time_of_exchanges(&self, count: u64) -> Result<Duration> {
        let name = "exchanges_total;r=done";
        let before = self.whole(name).await?;
        let before = self.wait_for_whole(name, before + 1).await?;
        let start = Instant::now();
        self.wait_for_whole(name, before + count).await?;
        Ok(start.elapsed())
    }

    /// Fails when this does not hold while the VM with the lease ticks ten times and more: each of
    /// two exchanges that bring no news takes it a second.
    pub async fn throughout_ticks(&self, holds: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let name = "exchanges_total;r=done";
        let enough = self.whole(name).await? + 2;
        let until = "two more exchanges";
        let exchanges = async || {
            let done = self.whole(name).await?;
            ensure!(done >= enough, "{done} of {enough}");
            Ok(())
        };
        throughout(SOON, until, exchanges, holds).await
    }

    /// Fails when a configuration was refused or a change given up: what holds in every story but
    /// those that are about it.
    pub async fn ensure_sane(&self) -> Result<()> {
        let stats = self.envoy.stats().await?;
        let bad = |name: &str| {
            name.contains("pointsman_state_conflicts_total")
                || name.ends_with("pointsman_configs_total;r=refused")
        };
        let bad: Vec<_> = stats
            .iter()
            .filter(|(name, count)| bad(name) && **count > 0)
            .collect();
        ensure!(bad.is_empty(), "{bad:?}");
        let wrapped = |(name, value): &(&String, &u64)| {
            name.starts_with("wasmcustom.pointsman_")
                && !name.ends_with("config_revision")
                && **value > u64::from(u32::MAX)
        };
        let wrapped: Vec<_> = stats.iter().filter(wrapped).collect();
        ensure!(wrapped.is_empty(), "below zero: {wrapped:?}");
        Ok(())
    }
}

fn whole_name(name: &str) -> String {
    format!("wasmcustom.pointsman_{name}")
}

/// The shipped bootstrap, fed by this sidecar, with [`WORKERS`] workers.
pub fn bootstrap(sidecar: &Sidecar) -> Result<Bootstrap> {
    Bootstrap::ads(sidecar.xds_address())?
        .concurrency(WORKERS)
        .exact_balance()
}

/// The revision that the sidecar's registry has.
pub async fn revision(sidecar: &Sidecar) -> Result<String> {
    let status = sidecar.status().await?;
    let revision = status["registry"]["revision"].as_str();
    Ok(revision.context("no revision in /status")?.to_owned())
}

/// Waits until the workers of every connected proxy run what the sidecar serves.
pub async fn wait_for_the_workers(sidecar: &Sidecar) -> Result<()> {
    eventually(SOON, "every worker to run the revision", async || {
        let status = sidecar.status().await?;
        let wanted = json!([status["registry"]["revision"]]);
        let proxies = status["proxies"].as_array().context("no proxies")?;
        let runs = |proxy: &Value| proxy["workers"] == WORKERS && proxy["revisions"] == wanted;
        ensure!(
            !proxies.is_empty() && proxies.iter().all(runs),
            "{wanted}: {proxies:?}"
        );
        Ok(())
    })
    .await
}

/// A health check of `/healthz` that needs `threshold` results to change its mind; no answer is too
/// late for it, as backends answer when the story's own process has the time.
pub fn check(interval_ms: u64, threshold: u64) -> Value {
    json!({
        "http": {"path": "/healthz"},
        "interval": format!("{interval_ms}ms"),
        "timeout": "20s",
        "healthyThreshold": threshold,
        "unhealthyThreshold": threshold,
    })
}

/// The document of [`CLUSTER`]: round robin, unless `extra` says otherwise, so that who serves is
/// no accident. (The default policy weighs loads, and what a worker knows of the others' is a little
/// old.)
pub fn orders(backends: &[&Upstream], extra: Value) -> Value {
    let mut document = cluster(CLUSTER, backends, extra);
    if document["loadBalancing"].is_null() {
        document["loadBalancing"] = json!({"policy": "RoundRobin"});
    }
    document
}

/// What the sidecar thinks of a backend of [`CLUSTER`].
pub async fn is_healthy(sidecar: &Sidecar, id: &str) -> Result<bool> {
    let status = sidecar.status().await?;
    let backends = status["clusters"]
        .as_array()
        .and_then(|clusters| clusters.iter().find(|cluster| cluster["name"] == CLUSTER))
        .and_then(|cluster| cluster["backends"].as_array())
        .context("the cluster is not in /status")?;
    let backend = backends.iter().find(|backend| backend["id"] == id);
    let backend = backend.with_context(|| format!("no backend {id} in /status"))?;
    backend["healthy"].as_bool().context("no verdict")
}

/// Waits until the sidecar thinks so of a backend of [`CLUSTER`]; says how long that took.
pub async fn wait_for_verdict(sidecar: &Sidecar, id: &str, healthy: bool) -> Result<Duration> {
    let start = Instant::now();
    eventually(SOON, &format!("{id} to be healthy={healthy}"), async || {
        let now = is_healthy(sidecar, id).await?;
        ensure!(now == healthy, "healthy={now}");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Sends one GET per client, in turn, until this many were sent in all; the backends that answered.
/// Every answer must be a backend's 200.
pub async fn answered_by(clients: &mut [Client], count: usize) -> Result<Vec<String>> {
    let mut order = Vec::with_capacity(count);
    let workers = clients.len();
    for nth in 0..count {
        let response = clients[nth % workers].get("/").await?;
        let backend = response.backend().filter(|_| response.status == 200);
        let why = || format!("GET {nth}: {} {}", response.status, response.text());
        order.push(backend.with_context(why)?.to_owned());
    }
    Ok(order)
}

/// Waits until the clients' next requests are answered by exactly these backends, 6 of each client
/// in a row; says how long that took.
pub async fn wait_for_servers(clients: &mut [Client], wanted: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    let count = 6 * clients.len();
    let what = format!("exactly {wanted:?} to serve");
    eventually(SOON, &what, async || {
        let mut order = answered_by(clients, count).await?;
        order.sort();
        order.dedup();
        ensure!(order == wanted, "{order:?}");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Sends a GET that asks the stories' module for a fault.
pub async fn fault(client: &mut Client, fault: &str) -> Result<harness::Response> {
    let mut request = get("/");
    request.headers_mut().insert("x-fault", fault.parse()?);
    client.send(request).await
}
