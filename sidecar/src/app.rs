//! The only place that starts tasks: which stages there are, and what they need of each other.

mod health;
mod instance;
mod listeners;
mod stages;

use std::sync::Arc;

use anyhow::{Context, bail};
use hmac::{Hmac, KeyInit, Mac};
use pointsman_filter::config::ExchangeConfig;
use sha2::Sha256;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Readiness};
use crate::fleet::Fleet;
use crate::health::{HealthView, Verdicts};
use crate::jobs::QueueStatus;
use crate::registry::document::SIDECAR_CLUSTER;
use crate::registry::{Output, Published, Source, SourceStatus, Statuses, warnings};
use crate::settings::{Module, RegistrySettings, Settings};
use crate::statuses;
use crate::stores::kubernetes::lease::KubernetesLease;
use crate::stores::lease::Lease;
use crate::stores::redis::keeper::Keeper;
use crate::telemetry::counts::EventCounts;
use crate::telemetry::events::Events;
use crate::trust::{self, Trust};
use crate::xds::Proxies;
use crate::xds::ads::Ads;
use crate::xds::delivery::{self, Delivery};
use crate::xds::resources::Code;
use crate::xds::server;
use crate::xds::views::Offer;
use health::AdminStage;
use instance::Instance;
use listeners::Listeners;
use stages::{Signals, Stages};

/// What the stages tell each other; every one of them is a queue of one. Lives as long as they do.
struct Channels {
    /// Registry → prober, exchange, delivery.
    registry: watch::Sender<Published>,
    /// Registry → admin.
    source: watch::Sender<SourceStatus>,
    /// Trust → prober, delivery, admin.
    trust: watch::Sender<Arc<Trust>>,
    /// Admin → registry: how often a full reading was wished for.
    reloads: watch::Sender<u64>,
    /// Exchange → delivery, admin.
    fleet: watch::Sender<Fleet>,
    /// Prober → exchange.
    verdicts: watch::Sender<Arc<Verdicts>>,
    /// Prober → admin, statuses.
    health: watch::Sender<Arc<HealthView>>,
    /// Delivery → ADS.
    offers: watch::Sender<Option<Arc<Offer>>>,
    /// ADS → delivery, admin.
    proxies: watch::Sender<Proxies>,
    /// Jobs → admin.
    queue: watch::Sender<QueueStatus>,
}

impl Channels {
    /// With the registry that was read first, and nobody heard yet.
    fn new(source: &Source, trust: Trust, instance: Instance) -> Self {
        Channels {
            registry: watch::Sender::new(Some(source.registry())),
            trust: watch::Sender::new(Arc::new(trust)),
            source: watch::Sender::new(source.status()),
            reloads: watch::Sender::default(),
            fleet: watch::Sender::default(),
            verdicts: watch::Sender::new(Arc::new(Verdicts::new(instance.number()))),
            health: watch::Sender::default(),
            offers: watch::Sender::new(None),
            proxies: watch::Sender::default(),
            queue: watch::Sender::default(),
        }
    }
}

/// Runs the sidecar until a signal, `stop`, or the failure of a stage.
/// `counts` is where the log counts its lines.
pub async fn serve(
    settings: Settings,
    counts: EventCounts,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    warn_of_demo(&settings);
    // From here on a signal means an orderly end.
    let mut signals = Signals::listen()?;
    let code = read_module(&settings.module)?;
    let listeners = Listeners::bind(&settings).await?;
    let addresses = listeners.addresses.clone();
    let readiness = Readiness::default();
    let (not_read, not_listening) = (readiness.wait_for("registry"), readiness.wait_for("xds"));
    let mut stages = Stages::new(stop);
    let (xds_listener, pages) = listeners.answer_early(&mut stages, &readiness)?;
    let opening = Source::open(&settings.registry, exchange_config(&settings));
    let source = tokio::select! {
        source = opening => source?,
        () = signals.recv() => return stages.end(settings.shutdown_grace).await,
    };
    drop(not_read);
    let instance = Instance::draw();
    let nobody = Trust::default();
    let trust = Trust::read(&source.registry().config.clusters, &nobody).await;
    trust::tell(&nobody, &trust);
    let channels = Channels::new(&source, trust, instance);
    let ads = Ads::new(
        channels.offers.subscribe(),
        channels.proxies.clone(),
        settings.xds_token.clone(),
        stages.stop(),
    );
    let metrics = health::metrics(&channels, counts);
    let figures = admin::figures(readiness.clone(), metrics.clone());
    drop(pages.figures.send_replace(figures));
    let events = Events::new(metrics.clone());
    let (place, editor) = (source.place(), source.editor());
    let queue = health::queue(&settings.registry, &editor, instance);
    channels.queue.send_replace(queue.status());
    let counted = start_stages(
        &mut stages,
        &channels,
        source,
        &events,
        instance,
        Delivery::new(code, settings.change_interval),
    );
    let jobs = queue.clone();
    let jobs = jobs.run(channels.queue.clone(), events.clone(), stages.stop());
    stages.start("jobs", after(counted, jobs, stages.stop()));
    let admin_stage = AdminStage {
        routes: pages.routes,
        local: pages.local,
        readiness,
        place,
        editor,
        queue,
    };
    let extra = health::start(
        &mut stages,
        &channels,
        &settings,
        (metrics, events),
        instance,
        admin_stage,
    );
    let serving = server::serve(xds_listener, stages.stop(), ads, extra);
    stages.start("xds", serving);
    drop(not_listening);

    let (xds, admin) = (addresses.xds, addresses.admin);
    info!(event = "listening", xds, admin, "serving");
    stages.run(signals, settings.shutdown_grace).await
}

fn warn_of_demo(settings: &Settings) {
    if let RegistrySettings::Demo(file) = &settings.registry {
        warn!(
            event = "demo_mode",
            environment = settings.environment,
            "DEMO_MODE: the registry is in memory, seeded from {}; nothing is stored",
            file.display()
        );
    }
}

/// Checks what [`serve`] would start with, to the last record: a line that says it is good.
pub async fn validate(settings: &Settings) -> anyhow::Result<String> {
    read_module(&settings.module)?;
    let source = Source::open(&settings.registry, exchange_config(settings)).await?;
    let registry = source.registry();
    if !registry.rejected.is_empty() {
        let rejected = registry.rejected.iter();
        let lines: Vec<&str> = rejected.map(|it| it.error.as_str()).collect();
        bail!("{}: {}", source.place(), lines.join("\n"));
    }
    let size = registry.size();
    let (clusters, backends) = (size.clusters, size.backends);
    let place = source.place();
    let mut told = format!("{place}: valid, {clusters} clusters, {backends} backends\n");
    let clusters = &registry.config.clusters;
    for (_, why) in warnings::of(clusters) {
        told.push_str(&format!("warning: {why}\n"));
    }
    let trust = Trust::read(clusters, &Trust::default()).await;
    for cluster in clusters {
        if let Some(why) = trust.error_of(cluster) {
            told.push_str(&format!("warning: {}: {why}\n", cluster.name));
        }
    }
    Ok(told)
}

/// Runs a stage once something has been done, if anything has to be: RM-3.
async fn after(
    done: Option<Arc<Notify>>,
    stage: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(done) = done {
        tokio::select! {
            () = done.notified() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
    stage.await
}

/// Starts what reads, serves and writes back; what is told once the counters were asked for, where
/// they are in a store.
fn start_stages(
    stages: &mut Stages,
    channels: &Channels,
    source: Source,
    events: &Events,
    instance: Instance,
    delivery: Delivery,
) -> Option<Arc<Notify>> {
    let mut counted = None;
    let output = Output {
        published: channels.registry.clone(),
        status: channels.source.clone(),
        events: events.clone(),
        reloads: channels.reloads.subscribe(),
    };
    match source.statuses() {
        Some(Statuses::Kubernetes {
            access,
            lease_duration,
            told,
        }) => {
            let store = KubernetesLease::new(&access);
            let lease = Lease::new(store, instance.name(), lease_duration);
            let inputs = (
                told,
                channels.fleet.subscribe(),
                channels.health.subscribe(),
                channels.trust.subscribe(),
            );
            let writer = statuses::kubernetes::Writer::new(&access, lease, inputs);
            stages.start("statuses", writer.run(stages.stop()));
        }
        Some(Statuses::Redis { settings, told }) => {
            let inputs = (
                told,
                channels.health.subscribe(),
                channels.trust.subscribe(),
            );
            let outputs = (channels.source.clone(), events.clone());
            let keeper = Keeper::new(&settings);
            let told = Arc::clone(counted.insert(Arc::default()));
            let name = instance.name();
            let writer = statuses::redis::Writer::new(keeper, name, inputs, outputs, told);
            stages.start("statuses", writer.run(stages.stop()));
        }
        None => {}
    }
    let reading = source.run(output, stages.stop());
    stages.start("registry", async { Ok(reading.await?) });
    let delivering = delivery::run(
        delivery,
        channels.registry.subscribe(),
        channels.trust.subscribe(),
        (channels.fleet.subscribe(), channels.proxies.subscribe()),
        channels.offers.clone(),
        stages.stop(),
    );
    stages.start("delivery", delivering);
    let (registry, trust) = (channels.registry.subscribe(), channels.trust.clone());
    stages.start("trust", trust::run(registry, trust, stages.stop()));
    counted
}

fn read_module(module: &Module) -> anyhow::Result<Code> {
    match module {
        Module::Path(path) => Ok(Code::Path(path.clone())),
        Module::Inline(file) => {
            let context = || {
                format!(
                    "cannot read the filter module {} (POINTSMAN_WASM)",
                    file.display()
                )
            };
            Ok(Code::Inline(std::fs::read(file).with_context(context)?))
        }
    }
}

fn exchange_config(settings: &Settings) -> ExchangeConfig {
    ExchangeConfig {
        cluster: SIDECAR_CLUSTER.to_owned(),
        token: settings
            .xds_token
            .as_ref()
            .map_or_else(String::new, |token| exchange_token(token.reveal())),
        verdict_ttl: settings.verdict_ttl,
    }
}

/// What the filters show at the exchange: derived, so that a filter's configuration, which anyone
/// with access to Envoy's admin port can read, does not give the token itself away.
fn exchange_token(token: &str) -> String {
    // HMAC takes keys of any length, so this never is the empty text.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else {
        return String::new();
    };
    mac.update(b"pointsman-exchange");
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_token_is_derived() {
        // Computed with another implementation.
        let expected = "41bb5d045423be55f7009e3d075e44cb\
                        c7de1d19a5b11ad7fcfd4129eb0a54e9";
        assert_eq!(exchange_token("s3cret"), expected);
    }
}
