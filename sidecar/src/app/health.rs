//! The prober, the exchange and the admin listener, and what they need of the other stages.

use axum::Router;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use super::Channels;
use super::instance::Instance;
use super::stages::Stages;
use crate::admin::{self, Access, Admin, Gauges, Readiness, Reloads, Sources};
use crate::exchange::{self, Exchange};
use crate::fleet;
use crate::health::{Health, Prober};
use crate::jobs::{MemoryQueue, Queue, RedisQueue};
use crate::registry::editor::Editor;
use crate::settings::{RegistrySettings, Settings};
use crate::telemetry::counts::EventCounts;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

/// Most proxies' verdicts that wait for the prober at a time.
const HANDED_BACK_MAX: usize = 16;

/// What the admin listener needs to know.
pub struct AdminStage {
    /// What it answers from now on.
    pub routes: watch::Sender<Router>,
    /// Whether only this machine can ask.
    pub local: bool,
    /// What is not ready yet.
    pub readiness: Readiness,
    /// Where the registry is, for people.
    pub place: String,
    /// The way to change it.
    pub editor: Editor,
    /// What is to be done later.
    pub queue: Queue,
}

/// The queue of jobs that the registry's store allows.
pub fn queue(settings: &RegistrySettings, editor: &Editor, instance: Instance) -> Queue {
    match settings {
        RegistrySettings::Demo(_) => {
            warn!(
                event = "demo_mode",
                "DEMO_MODE: the queue of jobs is in memory; what waits there ends with the process"
            );
            Queue::Memory(MemoryQueue::new(editor.clone()))
        }
        RegistrySettings::Redis(redis) => {
            let queue = RedisQueue::new(redis, instance.name());
            Queue::Redis(Box::new(queue))
        }
        RegistrySettings::Kubernetes(_) => Queue::Disabled,
    }
}

/// Every metric, reading its gauges from the stages.
pub fn metrics(channels: &Channels, counts: EventCounts) -> Metrics {
    Metrics::new(
        counts,
        Gauges {
            registry: channels.registry.subscribe(),
            source: channels.source.subscribe(),
            health: channels.health.subscribe(),
            fleet: channels.fleet.subscribe(),
            proxies: channels.proxies.subscribe(),
            queue: channels.queue.subscribe(),
        },
    )
}

/// Starts the prober and what speaks of health; returns the routes beside xDS.
pub fn start(
    stages: &mut Stages,
    channels: &Channels,
    settings: &Settings,
    (metrics, events): (Metrics, Events),
    instance: Instance,
    admin: AdminStage,
) -> Router {
    let started = Instant::now();
    let (handing, handed_back) = mpsc::channel(HANDED_BACK_MAX);
    let (seed, ttl) = (instance.number(), settings.verdict_ttl);
    let prober = Prober {
        registry: channels.registry.subscribe(),
        trust: channels.trust.subscribe(),
        handed_back,
        state: Health::new(seed, seed, ttl),
        verdicts: channels.verdicts.clone(),
        view: channels.health.clone(),
        metrics: metrics.clone(),
        events: events.clone(),
        started,
    };
    stages.start("health", prober.run(stages.stop()));
    stages.start("fleet", {
        let silent = fleet::drop_silent(channels.fleet.clone(), stages.stop());
        async {
            silent.await;
            Ok(())
        }
    });
    let AdminStage {
        routes,
        local,
        readiness,
        place,
        editor,
        queue,
    } = admin;
    let admin = Admin {
        sources: Sources {
            environment: settings.environment.clone(),
            source: place,
            started,
            registry: channels.registry.subscribe(),
            source_status: channels.source.subscribe(),
            health: channels.health.subscribe(),
            trust: channels.trust.subscribe(),
            fleet: channels.fleet.subscribe(),
            proxies: channels.proxies.subscribe(),
            queue: channels.queue.subscribe(),
        },
        metrics: metrics.clone(),
        readiness,
        access: Access {
            token: settings.admin_token.clone(),
            reload_from: settings.reload_allowed_ip,
        },
        editor,
        reloads: Reloads::new(channels.reloads.clone(), channels.registry.borrow().clone()),
        queue,
        stop: stages.stop(),
    };
    drop(routes.send_replace(admin::router(admin, local)));
    exchange::router(Exchange {
        verdicts: channels.verdicts.subscribe(),
        fleet: channels.fleet.clone(),
        offers: channels.offers.subscribe(),
        handed_back: handing,
        young_until: started + ttl,
        token: super::exchange_config(settings).token,
        metrics,
        events,
        stop: stages.stop(),
    })
}
