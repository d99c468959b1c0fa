//! When what is served changes: at most so often, and never so that a worker names what is gone.
//!
//! Additions are served at once. What the registry drops leaves the filters at once, but Envoy's
//! clusters and endpoints only when no worker can name it any more.

mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ClusterConfig;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Proxies;
use super::resources::{self, Code, Served};
use super::snapshot::Snapshot;
use super::views::Offer;
use crate::fleet::{Fleet, ProcessReport};
use crate::registry::{Published, Registry};
use crate::trust::Trust;
use pace::Pace;

/// Longest that a removal waits for the workers.
pub const REMOVAL_GRACE: Duration = Duration::from_secs(30);
/// Revisions that are remembered. A worker that runs an older one is waited for until the grace.
const REVISIONS_MAX: usize = 256;

/// What is served, what is wanted, and what is on its way out.
pub struct Delivery {
    code: Arc<Code>,
    wanted: Option<Arc<Registry>>,
    /// Whom clusters trust, and whether that is news.
    trust: (Arc<Trust>, bool),
    served: Option<Arc<Registry>>,
    pace: Pace,
    /// Counts what was served; a later one has a higher number.
    sequence: u64,
    /// Revision → the number under which it was served last.
    revisions: BTreeMap<u64, u64>,
    leaving_endpoints: BTreeMap<(String, SocketAddr), Leaving>,
    leaving_clusters: BTreeMap<String, (ClusterConfig, Leaving)>,
}

/// Since when something is on its way out.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    sequence: u64,
    since: Instant,
}

impl Delivery {
    /// Nothing is served yet. `interval`: the least time between two changes.
    pub fn new(code: Code, interval: Duration) -> Self {
        Delivery {
            code: Arc::new(code),
            wanted: None,
            trust: Default::default(),
            served: None,
            pace: Pace::new(interval),
            sequence: 0,
            revisions: BTreeMap::new(),
            leaving_endpoints: BTreeMap::new(),
            leaving_clusters: BTreeMap::new(),
        }
    }

    /// Takes in what is wanted from now on.
    pub fn want(&mut self, registry: Arc<Registry>) {
        // Probes, for one, can change without any news for Envoy.
        let same = |served: &Arc<Registry>| served.revision == registry.revision;
        let news = !self.served.as_ref().is_some_and(same);
        self.wanted = news.then_some(registry);
    }

    /// Takes in whom clusters trust from now on.
    pub fn trust(&mut self, trust: Arc<Trust>) {
        let news = self.trust.1 || *trust != *self.trust.0;
        self.trust = (trust, news);
    }

    /// Whether something waits for the workers to forget it.
    pub fn has_leaving(&self) -> bool {
        !self.leaving_endpoints.is_empty() || !self.leaving_clusters.is_empty()
    }

    /// When to step again if nothing happens until then.
    pub fn wake(&self) -> Option<Instant> {
        let changed = self.wanted.as_ref().and(self.pace.next());
        let endpoints = self.leaving_endpoints.values().map(|leaving| leaving.since);
        let clusters = self
            .leaving_clusters
            .values()
            .map(|(_, leaving)| leaving.since);
        let gone = endpoints
            .chain(clusters)
            .min()
            .map(|since| since + REMOVAL_GRACE);
        changed.into_iter().chain(gone).min()
    }

    /// Does what is due: the new snapshot, if there is one. `reports` holds the last report of each
    /// connected proxy, `None` for one that has not reported.
    pub fn step(&mut self, now: Instant, reports: &[Option<&ProcessReport>]) -> Option<Snapshot> {
        let shrunk = self.let_go(now, reports);
        let grown = self.take_wanted(now);
        // Rare, and no worker waits for it: at once.
        let trusting = std::mem::take(&mut self.trust.1);
        if !(shrunk || grown || trusting) {
            return None;
        }
        let served = self.served.as_ref()?;
        let kept = self.leaving_clusters.values().map(|(config, _)| config);
        let clusters = served.config.clusters.iter().chain(kept);
        let clusters = clusters.map(|config| Served {
            config,
            leaving: self.leaving_of(&config.name),
        });
        Some(resources::snapshot(
            clusters,
            &self.trust.0,
            &served.config,
            &self.code,
        ))
    }

    /// A snapshot as it is offered to proxies; `before` is what they were offered last.
    fn offer(&self, snapshot: Snapshot, before: Option<&Offer>) -> Option<Offer> {
        let (registry, code) = (self.served.clone()?, Arc::clone(&self.code));
        Some(Offer::new(snapshot, registry, code, before))
    }

    fn leaving_of(&self, cluster: &str) -> BTreeSet<SocketAddr> {
        let lowest = SocketAddr::from(([0, 0, 0, 0], 0));
        self.leaving_endpoints
            .range((cluster.to_owned(), lowest)..)
            .take_while(|((name, _), _)| name == cluster)
            .map(|((_, address), _)| *address)
            .collect()
    }

    fn take_wanted(&mut self, now: Instant) -> bool {
        let Some(wanted) = self.wanted.take() else {
            return false;
        };
        if !self.pace.admit(now) {
            self.wanted = Some(wanted);
            return false;
        }
        self.sequence += 1;
        let leaving = Leaving {
            sequence: self.sequence,
            since: now,
        };
        self.note_leaving(&wanted, leaving);
        self.revisions.insert(wanted.revision, self.sequence);
        while self.revisions.len() > REVISIONS_MAX {
            let oldest = self.revisions.iter().min_by_key(|(_, sequence)| **sequence);
            let Some(oldest) = oldest.map(|(revision, _)| *revision) else {
                break;
            };
            self.revisions.remove(&oldest);
        }
        self.served = Some(wanted);
        true
    }

    /// Compares what will be served with what is, and keeps what would be missing.
    fn note_leaving(&mut self, wanted: &Registry, leaving: Leaving) {
        let next: BTreeMap<&str, &ClusterConfig> = wanted
            .config
            .clusters
            .iter()
            .map(|cluster| (cluster.name.as_str(), cluster))
            .collect();
        let served = self.served.clone();
        for cluster in served.iter().flat_map(|served| &served.config.clusters) {
            match next.get(cluster.name.as_str()) {
                Some(next) => self.note_endpoints(cluster, next, leaving),
                None => {
                    let kept = (cluster.clone(), leaving);
                    self.leaving_clusters.insert(cluster.name.clone(), kept);
                }
            }
        }
        // A cluster that comes back while it leaves: only the addresses it lost go on leaving.
        let back: Vec<String> = self
            .leaving_clusters
            .keys()
            .filter(|name| next.contains_key(name.as_str()))
            .cloned()
            .collect();
        for name in back {
            if let (Some((cluster, leaving)), Some(next)) =
                (self.leaving_clusters.remove(&name), next.get(name.as_str()))
            {
                self.note_endpoints(&cluster, next, leaving);
            }
        }
    }

    fn note_endpoints(&mut self, from: &ClusterConfig, to: &ClusterConfig, leaving: Leaving) {
        let stays: BTreeSet<SocketAddr> = to.backends.iter().map(|b| b.address).collect();
        for address in from.backends.iter().map(|backend| backend.address) {
            if !stays.contains(&address) {
                self.leaving_endpoints
                    .insert((from.name.clone(), address), leaving);
            }
        }
        self.leaving_endpoints
            .retain(|(name, address), _| *name != to.name || !stays.contains(address));
    }

    /// Drops what no worker can name any more, or has waited long enough.
    fn let_go(&mut self, now: Instant, reports: &[Option<&ProcessReport>]) -> bool {
        let revisions = &self.revisions;
        let stays = |leaving: &Leaving| {
            let waited = now >= leaving.since + REMOVAL_GRACE;
            !waited
                && !reports
                    .iter()
                    .all(|report| has_passed(*report, leaving, revisions))
        };
        let before = self.leaving_endpoints.len() + self.leaving_clusters.len();
        self.leaving_endpoints.retain(|_, leaving| stays(leaving));
        self.leaving_clusters
            .retain(|_, (_, leaving)| stays(leaving));
        before != self.leaving_endpoints.len() + self.leaving_clusters.len()
    }
}

/// Whether a proxy's workers all run what was served when this left, or later. A report from
/// before says nothing: a revision can come back.
fn has_passed(
    report: Option<&ProcessReport>,
    leaving: &Leaving,
    revisions: &BTreeMap<u64, u64>,
) -> bool {
    let Some(report) = report.filter(|report| report.seen > leaving.since) else {
        return false;
    };
    let passed = |revision: &u64| {
        let sequence = revisions.get(revision);
        sequence.is_some_and(|sequence| *sequence >= leaving.sequence)
    };
    !report.revisions.is_empty() && report.revisions.iter().all(passed)
}

/// Offers snapshots until told to stop.
pub async fn run(
    mut delivery: Delivery,
    mut registry: watch::Receiver<Published>,
    mut trust: watch::Receiver<Arc<Trust>>,
    (mut fleet, mut proxies): (watch::Receiver<Fleet>, watch::Receiver<Proxies>),
    offers: watch::Sender<Option<Arc<Offer>>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        if let Some(wanted) = registry.borrow_and_update().clone() {
            delivery.want(wanted);
        }
        delivery.trust(Arc::clone(&trust.borrow_and_update()));
        // A change can leave behind what may go at once: step until nothing is due.
        while let Some(snapshot) = step(&mut delivery, &mut fleet, &mut proxies) {
            info!(
                event = "snapshot",
                filters = snapshot.filters.version(),
                leaving = delivery.has_leaving(),
                "serving a new snapshot"
            );
            let before = offers.borrow().clone();
            let offer = delivery.offer(snapshot, before.as_deref());
            offers.send_replace(offer.map(Arc::new));
        }
        let wake = delivery.wake();
        let reports_matter = delivery.has_leaving();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = registry.changed() => changed?,
            changed = trust.changed() => changed?,
            changed = fleet.changed(), if reports_matter => changed?,
            changed = proxies.changed(), if reports_matter => changed?,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

fn step(
    delivery: &mut Delivery,
    fleet: &mut watch::Receiver<Fleet>,
    proxies: &mut watch::Receiver<Proxies>,
) -> Option<Snapshot> {
    let fleet = fleet.borrow_and_update();
    let proxies = proxies.borrow_and_update();
    let nodes = proxies.streams_by_node().into_iter();
    let reports = nodes.flat_map(|(node, streams)| fleet.reports_of(node, streams));
    let reports: Vec<Option<&ProcessReport>> = reports.collect();
    delivery.step(Instant::now(), &reports)
}

#[cfg(test)]
pub(super) mod tests;
