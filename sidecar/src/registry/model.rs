//! The types of this stage: what is served, how its source is doing, what one reading found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::base::hash;
use pointsman_filter::config::{ClusterConfig, ConfigErrors, ExchangeConfig, FilterConfig};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::model::event::Event;
use crate::model::overrides::Overrides;
use crate::model::size::Size;
use crate::telemetry::events::Events;

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
    /// The operators' overrides, obeyed in the configuration; also those on absent backends.
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
    /// Whether its store answers.
    pub reachability: Reachability,
    /// What kind of store that is.
    pub kind: StoreKind,
    /// How often everything was read from the store.
    pub listings: u64,
    /// How long the last of these readings took.
    pub listing_took: Duration,
    /// When the store was read last, all of it or a change.
    pub synced: Option<Instant>,
    /// The loss that waits for its confirmation.
    pub held: Option<Held>,
    /// What its writer found.
    pub writer: WriterStatus,
    /// How far the store's clock is ahead of ours, ms.
    pub clock_ahead_ms: i64,
    /// The last wish of [`Output::reloads`] that was granted, or failed with the error above.
    pub reloaded: u64,
}

/// What the writer of a store knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriterStatus {
    /// What all sidecars on this store have counted together, by event.
    pub counters: BTreeMap<String, u64>,
    /// What of our own stands there and cannot be read.
    pub odd: Vec<Rejected>,
    /// Why nothing can be written now, although the store answers.
    pub unwritable: Option<String>,
}

/// Whether the store behind a source answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// There is none: demo mode.
    #[default]
    Memory,
    /// It answers.
    Up,
    /// It does not; the last good registry serves.
    Down,
}

/// The kinds of stores that a registry can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreKind {
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

/// One reading of a source: what is good, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Records that are true to the schema; names are unique.
    pub clusters: Vec<ClusterConfig>,
    /// The others.
    pub rejected: Vec<BadRecord>,
    /// The operators' overrides.
    pub overrides: Overrides,
    /// By cluster, of good and bad documents alike.
    pub etags: BTreeMap<String, String>,
}

impl Listing {
    /// Obeys the operators' overrides that are in force at `now`, ms of the store's clock, and forgets
    /// the others; when the next one begins or ends.
    pub fn obey(&mut self, now: u64) -> Option<u64> {
        let due = self.overrides.settle(now);
        self.overrides.obey(&mut self.clusters);
        due
    }
}

/// A record that the parser refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
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

    /// One line for a registry that is another one than before.
    pub fn log_changed(&self) {
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
pub fn log_rejected(before: &[Rejected], now: &[Rejected]) {
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
pub struct Output {
    /// Stage 1's output.
    pub published: watch::Sender<Published>,
    /// How the source is doing.
    pub status: watch::Sender<SourceStatus>,
    /// Where its events go.
    pub events: Events,
    /// Counts the wishes to have everything read again now.
    pub reloads: watch::Receiver<u64>,
}

impl Output {
    /// Serves this registry from now on; who waits for changes is told where it is another one.
    pub fn serve(&self, registry: &Arc<Registry>) {
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

    /// Reports what happened.
    pub fn report(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.report(event);
        }
    }
}
