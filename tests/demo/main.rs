//! `make demo`: three backends and a spare, one sidecar, one Envoy with two workers; a backend is
//! killed under load and comes back, another is drained, the spare steps in. No request may fail.
//!
//! Ends by itself, with exit code 1 when anything was not as it should be. `KEEP=1` keeps
//! everything running afterwards, until Ctrl-C.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use harness::load::Running;
use harness::registry::{self, Registry};
use harness::{Bootstrap, Envoy, Load, SOON, Sidecar, Tally, Upstream, eventually};
use serde_json::json;
use tokio::signal::ctrl_c;

const CLUSTER: &str = "orders";
/// Requests per second of the load in the background.
const RATE: u32 = 1000;
/// The background load is stopped long before this; it bounds a demo that hangs.
const LOAD_MAX: u64 = 120_000;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let demo = tokio::select! {
        demo = tell() => demo?,
        // What `tell` owns is dropped, and with it every process.
        _ = ctrl_c() => bail!("interrupted; everything is stopped"),
    };
    println!("\nAll as it should be: not one request failed.");
    if env::var_os("KEEP").is_some_and(|keep| !keep.is_empty()) {
        demo.introduce();
        demo.suggest();
        println!("\nEverything keeps running. Ctrl-C ends it.");
        ctrl_c().await?;
    }
    demo.envoy.stop().await?;
    demo.sidecar.stop().await
}

/// The story, and all that it leaves running.
async fn tell() -> Result<Demo> {
    let mut demo = Demo::start().await?;
    demo.introduce();
    demo.spread().await?;
    demo.kill_one_under_load().await?;
    demo.drain_by_editing_the_file().await?;
    demo.leave_only_the_spare().await?;
    Ok(demo)
}

/// Everything that runs. Fields are dropped in this order: what depends on others first.
struct Demo {
    envoy: Envoy,
    sidecar: Sidecar,
    registry: Registry,
    backends: [Upstream; 3],
    spare: Upstream,
}

impl Demo {
    async fn start() -> Result<Self> {
        println!("Starting three backends and a spare, the sidecar, and Envoy with two workers …");
        let backends = [backend(1)?, backend(2)?, backend(3)?];
        let spare = Upstream::new("orders-spare")?;
        let mut document = registry::cluster(CLUSTER, &backends.each_ref(), json!({}));
        document["healthCheck"] = json!({
            "http": {"path": "/healthz"},
            "interval": "500ms",
            "timeout": "500ms",
            "healthyThreshold": 2,
            "unhealthyThreshold": 2,
        });
        if let Some(entries) = document["backends"].as_array_mut() {
            entries.push(registry::backup(&spare));
        }
        let registry = Registry::new(vec![document])?;
        let sidecar = Sidecar::start(&registry).await?;
        let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
        let demo = Demo {
            envoy,
            sidecar,
            registry,
            backends,
            spare,
        };
        demo.wait_for_the_configuration().await?;
        Ok(demo)
    }

    /// Envoy has the endpoints, and the filter has taken over the sidecar's configuration.
    async fn wait_for_the_configuration(&self) -> Result<()> {
        eventually(SOON, "the registry to reach Envoy", async || {
            let hosts = self.envoy.hosts(CLUSTER).await?;
            ensure!(
                hosts.as_ref().is_some_and(|hosts| hosts.len() == 4),
                "hosts: {hosts:?}"
            );
            let reloads = "extension_config_discovery.http_filter.pointsman.config_reload";
            let reloads = self.envoy.stats(reloads).await?;
            ensure!(
                reloads.values().any(|count| *count > 0),
                "filter: {reloads:?}"
            );
            Ok(())
        })
        .await
    }

    fn introduce(&self) {
        println!();
        println!("  requests go to    http://{}/", self.envoy.address());
        println!("  Envoy's admin     http://{}/", self.envoy.admin_address());
        println!(
            "  the sidecar       http://{}/status",
            self.sidecar.admin_address()
        );
        println!("  the registry      {}", self.registry.file().display());
        for upstream in self.backends.iter().chain([&self.spare]) {
            println!("  {:<17} {}", upstream.id(), upstream.address());
        }
    }

    /// What to type next, in another terminal.
    fn suggest(&self) {
        let sidecar = self.sidecar.admin_address();
        let pointsman = "target/dist/pointsman --address";
        println!("\nTry next, in another terminal, or edit the registry's file:\n");
        println!("  curl -i http://{}/", self.envoy.address());
        println!("  {pointsman} {sidecar} get cluster {CLUSTER}");
        println!("  {pointsman} {sidecar} drain {CLUSTER} orders-1 --for 1m --wait");
    }

    async fn spread(&self) -> Result<()> {
        println!("\n1. Requests spread. 3000 GETs:");
        let tally = Load::new(self.envoy.address(), 3000)
            .connections(8)
            .run()
            .await?;
        print_spread(&tally);
        tally.ensure_clean()?;
        for upstream in &self.backends {
            let share = tally.by(upstream.id());
            ensure!(share > 500, "{} got only {share} of 3000", upstream.id());
        }
        ensure!(
            tally.by(self.spare.id()) == 0,
            "the spare was used though nobody is missing"
        );
        Ok(())
    }

    async fn kill_one_under_load(&self) -> Result<()> {
        let victim = &self.backends[1];
        println!(
            "\n2. {} is killed while {RATE} requests a second arrive …",
            victim.id()
        );
        let load = self.load();
        load.reach(2000, SOON).await?;
        victim.stop().await;
        let dead_from = load.done();
        load.reach(dead_from + 3000, SOON).await?;
        println!(
            "   {} requests later it comes back …",
            load.done() - dead_from
        );
        let hits = victim.hits();
        let back = Instant::now();
        victim.start()?;
        eventually(SOON, "the killed backend to serve again", async || {
            ensure!(victim.hits() > hits, "it has had no request since");
            Ok(())
        })
        .await?;
        println!(
            "   … and serves its first request {} ms after that.",
            back.elapsed().as_millis()
        );
        load.reach(load.done() + 2000, SOON).await?;
        finish(load).await?;
        Ok(())
    }

    async fn drain_by_editing_the_file(&mut self) -> Result<()> {
        let id = self.backends[2].id().to_owned();
        println!("\n3. The registry file is edited: {id} gets `state: Draining` …");
        let load = self.load();
        load.reach(1000, SOON).await?;
        let edited = Instant::now();
        self.set_state(&id, "Draining")?;
        let drained = &self.backends[2];
        eventually(SOON, "the drained backend to be left alone", async || {
            let hits = drained.hits();
            load.reach(load.done() + 300, SOON).await?;
            let more = drained.hits() - hits;
            ensure!(more == 0, "it got {more} of the last 300 requests");
            Ok(())
        })
        .await?;
        let quiet = drained
            .requests()
            .last()
            .map_or(edited, |last| last.at.max(edited));
        let after_ms = quiet.duration_since(edited).as_millis();
        println!("   … and gets no request from {after_ms} ms after the edit on.");
        finish(load).await?;
        Ok(())
    }

    async fn leave_only_the_spare(&mut self) -> Result<()> {
        println!("\n4. The other two are killed as well: only the spare is left …");
        let load = self.load();
        load.reach(1000, SOON).await?;
        self.backends[0].stop().await;
        load.reach(load.done() + 500, SOON).await?;
        self.backends[1].stop().await;
        load.reach(load.done() + 2000, SOON).await?;
        let tally = finish(load).await?;
        ensure!(tally.by(self.spare.id()) > 0, "the spare was not used");

        println!(
            "\n5. All are back, and {} takes requests again …",
            self.backends[2].id()
        );
        self.backends[0].start()?;
        self.backends[1].start()?;
        let id = self.backends[2].id().to_owned();
        self.set_state(&id, "Normal")?;
        let load = self.load();
        let before = self.backends.each_ref().map(Upstream::hits);
        eventually(SOON, "all three backends to serve again", async || {
            let now = self.backends.each_ref().map(Upstream::hits);
            let all = before.iter().zip(&now).all(|(before, now)| now > before);
            ensure!(all, "requests before {before:?}, now {now:?}");
            Ok(())
        })
        .await?;
        load.reach(load.done() + 2000, SOON).await?;
        finish(load).await?;
        Ok(())
    }

    fn set_state(&mut self, backend: &str, state: &str) -> Result<()> {
        self.registry
            .edit_backend(CLUSTER, backend, |entry| entry["state"] = state.into())
    }

    fn load(&self) -> Running {
        Load::new(self.envoy.address(), LOAD_MAX)
            .connections(8)
            .per_second(RATE)
            .start()
    }
}

fn backend(number: u32) -> Result<Upstream> {
    Upstream::new(&format!("orders-{number}")).context("cannot start a backend")
}

async fn finish(load: Running) -> Result<Tally> {
    let tally = load.stop().await?;
    print_spread(&tally);
    println!("   {} requests, {} failed.", tally.sent(), tally.failed());
    tally.ensure_clean()?;
    Ok(tally)
}

fn print_spread(tally: &Tally) {
    for (backend, count) in &tally.backends {
        let share = *count * 100 / tally.sent().max(1);
        let bar = "#".repeat(usize::try_from(share / 2).unwrap_or_default());
        println!("   {backend:<13} {count:>6}  {share:>3} %  {bar}");
    }
}
