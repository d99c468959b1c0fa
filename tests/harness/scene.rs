//! The usual scene: a registry in a store, a sidecar on it, and an Envoy with two workers whose
//! connections are dealt out evenly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::artefacts;
use crate::client::Client;
use crate::envoy::{Bootstrap, Envoy};
use crate::home::Home;
use crate::registry::Registry;
use crate::sidecar::Sidecar;
use crate::wait::{SOON, eventually, throughout};

/// The cluster of every scene: the one that the shipped bootstraps route to.
pub const CLUSTER: &str = "orders";
/// Workers of every scene's Envoy.
pub const WORKERS: u32 = 2;

/// Everything that runs; dropped in this order.
pub struct Scene<S = Registry> {
    /// What serves.
    pub envoy: Envoy,
    /// What feeds it.
    pub sidecar: Sidecar,
    /// What must outlive the sidecar.
    pub store: S,
}

impl<S: Home> Scene<S> {
    /// Keeps these documents in the store and starts all on it; `settings` are the sidecar's.
    pub async fn on(mut store: S, documents: &[Value], settings: &[(&str, &str)]) -> Result<Self> {
        for document in documents {
            store.keep(document).await?;
        }
        let sidecar = Sidecar::start_with(&store, settings).await?;
        let envoy = Envoy::start(bootstrap(&sidecar)?).await?;
        Ok(Scene {
            envoy,
            sidecar,
            store,
        })
    }
}

impl Scene {
    /// Over these documents, in a file.
    pub async fn start(documents: Vec<Value>) -> Result<Self> {
        Self::start_with(documents, &[]).await
    }

    /// The same with settings of the sidecar.
    pub async fn start_with(documents: Vec<Value>, settings: &[(&str, &str)]) -> Result<Self> {
        Self::on(Registry::new(documents)?, &[], settings).await
    }

    /// With the stories' own module, which obeys `x-fault`, in place of `pointsman.wasm`.
    pub async fn faulty(documents: Vec<Value>) -> Result<Self> {
        let (store, module) = (Registry::new(documents)?, artefacts::built("faulty.wasm")?);
        let path = module.to_str().context("the module's path is not text")?;
        let sidecar = Sidecar::start_with(&store, &[("POINTSMAN_WASM", path)]).await?;
        let envoy = Envoy::start(bootstrap(&sidecar)?.module(&module)?).await?;
        Ok(Scene {
            envoy,
            sidecar,
            store,
        })
    }
}

impl<S> Scene<S> {
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

    /// Changes the store, and waits until every worker runs the change; says how long that took.
    pub async fn edit(&mut self, change: impl FnOnce(&mut S) -> Result<()>) -> Result<Duration> {
        let before = revision(&self.sidecar).await?;
        let start = Instant::now();
        change(&mut self.store)?;
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
        let stats = self.envoy.stats("pointsman_").await?;
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

/// Envoy's name for one of the filter's counters or gauges for [`CLUSTER`]; `reason` may be empty.
pub fn figure_name(name: &str, reason: &str) -> String {
    let tail = match reason {
        "" => String::new(),
        reason => format!(";r={reason}"),
    };
    format!("wasmcustom.pointsman_{name};c={CLUSTER}{tail}")
}

/// Such a figure as it is now: for what must not have happened, or is compared with later.
pub async fn figure(envoy: &Envoy, name: &str, reason: &str) -> Result<u64> {
    envoy.stat(&figure_name(name, reason)).await
}

/// Waits until such a figure is this.
pub async fn wait_for_figure(envoy: &Envoy, name: &str, reason: &str, wanted: u64) -> Result<()> {
    envoy
        .wait_for_stat(&figure_name(name, reason), wanted)
        .await
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
