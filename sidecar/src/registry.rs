//! Stage 1: what is wanted. A source reads its whole listing, the one parser judges each record,
//! and the last good version of every record keeps serving.

pub mod changes;
pub mod demo;
pub mod document;
pub mod editor;
mod guard;
mod known;
pub mod kubernetes;
pub mod overrides;
pub mod redis;
mod sessions;
mod swap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_filter::base::hash;
use pointsman_filter::config::{ClusterConfig, ConfigErrors, ExchangeConfig, FilterConfig};
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::event::Event;
use crate::fleet::Fleet;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::settings::RegistrySettings;
use demo::Demo;
use document::DocumentError;
use editor::Editor;
use kubernetes::{Kubernetes, KubernetesStartError};
use overrides::Overrides;
use redis::{Redis, RedisStartError};

/// A registry as it is served. On the channel between the stages `None` means "not read yet",
/// never "empty".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Clusters, the exchange's settings and the revision.
    pub config: FilterConfig,
    /// The configuration's revision as a number.
    pub revision: u64,
    /// Records that were refused; their last good version is in the configuration, if there is one.
    pub rejected: Vec<Rejected>,
    /// The operators' words, obeyed in the configuration; also those on absent backends.
    pub overrides: Overrides,
    /// What the documents were when they were read, by cluster; see [`editor::Document`].
    pub etags: BTreeMap<String, String>,
}

/// A record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands, for example `clusters.orders`.
    pub place: String,
    /// Everything that is wrong with it.
    pub error: String,
}

/// How the source is doing, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceStatus {
    /// Why the last reading failed as a whole; absent when it did not.
    pub error: Option<String>,
    /// The store behind it.
    pub store: Store,
    /// What kind of store that is.
    pub home: Home,
    /// How often everything was read from the store.
    pub listings: u64,
    /// When the store was read last, all of it or a change.
    pub synced: Option<Instant>,
    /// The loss that waits for its confirmation.
    pub held: Option<Held>,
    /// What all sidecars on this store have counted together, by event.
    pub counters: BTreeMap<String, u64>,
    /// The last wish of [`Outlets::reloads`] that was granted, or failed with the error above.
    pub reloaded: u64,
}

/// The store behind a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Store {
    /// There is none: demo mode.
    #[default]
    Memory,
    /// It answers.
    Up,
    /// It does not; the last good registry serves.
    Down,
}

/// Where a registry can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Home {
    /// In memory, seeded from a file: demo mode.
    #[default]
    Memory,
    /// In Redis.
    Redis,
    /// In custom resources.
    Kubernetes,
}

/// A reading that is not served yet, and what is served meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// What is served.
    pub served: Size,
    /// What was read.
    pub found: Size,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Clusters.
    pub clusters: usize,
    /// Backends of all of them.
    pub backends: usize,
}

/// One reading of a source: what is good, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Records that are true to the schema; names are unique.
    pub clusters: Vec<ClusterConfig>,
    /// The others.
    pub rejected: Vec<BadRecord>,
    /// The operators' words.
    pub overrides: Overrides,
    /// By cluster, of good and bad documents alike.
    pub etags: BTreeMap<String, String>,
}

impl Listing {
    /// Puts the version that `last` still has in the place of each refused record.
    pub fn keep_last_good(&mut self, last: &Listing) {
        let mut names: BTreeSet<String> = self.clusters.iter().map(|it| it.name.clone()).collect();
        for name in self.rejected.iter().filter_map(|bad| bad.name.as_ref()) {
            let good = last.clusters.iter().find(|cluster| cluster.name == *name);
            if let Some(good) = good.filter(|_| names.insert(name.clone())) {
                self.clusters.push(good.clone());
            }
        }
    }

    /// Obeys the operators' words that are in force at `now`, ms of the store's clock, and forgets
    /// the others; when the next one ends.
    pub fn obey(&mut self, now: u64) -> Option<u64> {
        let due = self.overrides.expire(now);
        self.overrides.obey(&mut self.clusters);
        due
    }
}

/// A record that the parser refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The cluster it means, where it says so.
    pub name: Option<String>,
    /// Where it stands, for example `clusters.orders`.
    pub place: String,
    /// What is wrong with it.
    pub errors: ConfigErrors,
}

impl Registry {
    /// The registry that a listing makes.
    pub fn new(listing: Listing, exchange: ExchangeConfig) -> Self {
        let rejected = listing.rejected.into_iter().map(|bad| Rejected {
            place: bad.place,
            error: bad.errors.to_string(),
        });
        let rejected = rejected.collect();
        let config = FilterConfig::new(listing.clusters, Some(exchange));
        // `FilterConfig::new` writes the revision as hex; zero is the filter's "could not be read".
        let revision = hash::parse_hex(&config.revision).unwrap_or(0);
        Registry {
            config,
            revision,
            rejected,
            overrides: listing.overrides,
            etags: listing.etags,
        }
    }

    /// How much it holds.
    pub fn size(&self) -> Size {
        let clusters = &self.config.clusters;
        Size {
            clusters: clusters.len(),
            backends: clusters.iter().map(|it| it.backends.len()).sum(),
        }
    }

    fn log_changed(&self) {
        let clusters = self.config.clusters.len();
        info!(
            event = "registry_changed",
            revision = self.config.revision,
            clusters,
            "the registry changed"
        );
    }
}

/// One line per refusal that is news.
fn log_rejected(before: &[Rejected], now: &[Rejected]) {
    let before: BTreeSet<(&str, &str)> = before
        .iter()
        .map(|it| (it.place.as_str(), it.error.as_str()))
        .collect();
    for Rejected { place, error } in now {
        if !before.contains(&(place.as_str(), error.as_str())) {
            warn!(event = "record_rejected", place, "{error}");
        }
    }
}

/// What travels between the stages.
pub type Published = Option<Arc<Registry>>;

/// Where a source puts what it reads.
pub struct Outlets {
    /// Stage 1's output.
    pub published: watch::Sender<Published>,
    /// How the source is doing.
    pub status: watch::Sender<SourceStatus>,
    /// Where its events are counted.
    pub metrics: Metrics,
    /// Counts the wishes to have everything read again now.
    pub reloads: watch::Receiver<u64>,
}

/// What becomes of what a source published: for the statuses it writes.
pub struct Feedback {
    /// What the proxies run.
    pub fleet: watch::Receiver<Fleet>,
    /// What the probes found.
    pub health: watch::Receiver<Health>,
}

impl Outlets {
    /// Serves this registry from now on; who waits for changes is told where it is another one.
    fn serve(&self, registry: &Arc<Registry>) {
        self.published.send_if_modified(|published| {
            let same = published
                .as_ref()
                .is_some_and(|old| Arc::ptr_eq(old, registry));
            if !same {
                *published = Some(Arc::clone(registry));
            }
            !same
        });
    }

    fn event(&self, event: &Event) {
        event.log();
        self.metrics.event(event);
    }

    fn events(&self, events: &[Event]) {
        for event in events {
            self.event(event);
        }
    }
}

/// Why there is no registry to start with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The demo file.
    #[error(transparent)]
    Demo(#[from] DocumentError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisStartError),
    /// Kubernetes.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesStartError),
}

/// Where the registry is kept.
pub enum Source {
    /// In memory, seeded from a file.
    Demo(Box<Demo>),
    /// In Redis.
    Redis(Box<Redis>),
    /// In custom resources.
    Kubernetes(Box<Kubernetes>),
}

impl Source {
    /// Reads the registry for the first time.
    pub async fn open(
        settings: &RegistrySettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, StartError> {
        Ok(match settings {
            RegistrySettings::Demo(file) => {
                Source::Demo(Box::new(Demo::open(file.clone(), exchange)?))
            }
            RegistrySettings::Redis(redis) => {
                Source::Redis(Box::new(Redis::open(redis.clone(), exchange).await?))
            }
            RegistrySettings::Kubernetes(kubernetes) => {
                let opened = Kubernetes::open(kubernetes.clone(), exchange).await?;
                Source::Kubernetes(Box::new(opened))
            }
        })
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        match self {
            Source::Demo(demo) => demo.registry(),
            Source::Redis(redis) => redis.registry(),
            Source::Kubernetes(kubernetes) => kubernetes.registry(),
        }
    }

    /// How it is doing right after the start.
    pub fn status(&self) -> SourceStatus {
        let (store, home) = match self {
            Source::Demo(_) => (Store::Memory, Home::Memory),
            Source::Redis(_) => (Store::Up, Home::Redis),
            Source::Kubernetes(_) => (Store::Up, Home::Kubernetes),
        };
        SourceStatus {
            store,
            home,
            ..SourceStatus::default()
        }
    }

    /// Where it is, for people; without passwords.
    pub fn place(&self) -> String {
        match self {
            Source::Demo(demo) => format!("file {}", demo.path().display()),
            Source::Redis(redis) => redis.url().to_string(),
            Source::Kubernetes(kubernetes) => kubernetes.place(),
        }
    }

    /// The way to change it.
    pub fn editor(&self) -> Editor {
        match self {
            Source::Demo(demo) => Editor::Demo(demo.editor()),
            Source::Redis(redis) => Editor::Redis(Box::new(redis.editor())),
            Source::Kubernetes(kubernetes) => Editor::Kubernetes(Box::new(kubernetes.editor())),
        }
    }

    /// Publishes the registry after every change, until told to stop.
    pub async fn run(
        self,
        outlets: Outlets,
        feedback: Feedback,
        stop: CancellationToken,
    ) -> Result<(), JoinError> {
        match self {
            Source::Demo(demo) => {
                let watch = move || demo.watch(&outlets, &stop);
                spawn_blocking(watch).await
            }
            Source::Redis(redis) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = redis.run(outlets) => {}
                }
                Ok(())
            }
            Source::Kubernetes(kubernetes) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = kubernetes.run(outlets, feedback) => {}
                }
                Ok(())
            }
        }
    }
}
