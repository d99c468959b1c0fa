//! Writes into Redis what became of each cluster's records, what was counted here, and an end to
//! backends long silent. Over a connection of its own: who reads the registry never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::fleet::exchange::Version;
use redis::RedisError;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::counters::Counters;
use super::survey::survey;
use super::warned::warned;
use crate::health::HealthView;
use crate::registry::SourceStatus;
use crate::registry::follow::Told;
use crate::registry::model::{Rejected, log_rejected};
use crate::registry::records::{Report, Verdict};
use crate::stores::lease::Lease;
use crate::stores::redis::keeper::Keeper;
use crate::stores::redis::layout::Key;
use crate::stores::redis::lease::RedisLease;
use crate::stores::redis::link::{Counted, Link};
use crate::stores::redis::node;
use crate::telemetry::events::Events;
use crate::trust::Trust;

/// Between two passes over what there is to say.
const PASS_INTERVAL: Duration = Duration::from_millis(100);
/// Passes from one telling of the counts to the next, and from one look at what flaps.
const PASSES_PER_COUNT: u32 = 10;

/// What is written about one cluster.
type Fields = Vec<(&'static str, String)>;

/// What the writer hears: what is to be said, what the probes found, whom clusters trust.
pub type Inputs = (
    watch::Receiver<Told>,
    watch::Receiver<Arc<HealthView>>,
    watch::Receiver<Arc<Trust>>,
);

/// The writer.
pub struct Writer {
    keeper: Keeper,
    lease: Lease<RedisLease>,
    told: watch::Receiver<Told>,
    /// What the probes found.
    health: watch::Receiver<Arc<HealthView>>,
    /// Whom clusters trust.
    trust: watch::Receiver<Arc<Trust>>,
    status: watch::Sender<SourceStatus>,
    events: Events,
    /// Which verdicts were looked at last.
    verdicts: Version,
    /// What stands under the status keys.
    written: BTreeMap<String, Fields>,
    counters: Counters,
    /// What stands among the counts and is none.
    odd: Vec<Rejected>,
    /// Which reading `written` is of.
    listings: u64,
    /// The store refuses to be written, or cannot be now; tried again with the next count.
    refused: bool,
    /// That was said already.
    refusal_told: bool,
    connected_told: bool,
    counted: Arc<Notify>,
}

impl Writer {
    /// Nothing is written yet. The totals of what all have counted go to `status`; `counted` is told
    /// once they were asked for, whatever came of it.
    pub fn new(
        keeper: Keeper,
        holder: String,
        (told, health, trust): Inputs,
        (status, events): (watch::Sender<SourceStatus>, Events),
        counted: Arc<Notify>,
    ) -> Self {
        let store = RedisLease::new(keeper.clone());
        Writer {
            lease: Lease::new(store, holder, keeper.settings().lease_duration),
            keeper,
            told,
            health,
            trust,
            status,
            events,
            verdicts: Version::default(),
            written: BTreeMap::new(),
            counters: Counters::default(),
            odd: Vec::new(),
            listings: 0,
            refused: false,
            refusal_told: false,
            connected_told: false,
            counted,
        }
    }

    /// Writes until told to stop, and then lets another one write.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.write_all() => {}
        }
        self.lease.release().await;
        Ok(())
    }

    async fn write_all(&mut self) {
        let mut beat = interval(self.lease.beat());
        let mut pass = interval(PASS_INTERVAL);
        for interval in [&mut beat, &mut pass] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut passes: u32 = 0;
        let mut dirty = true;
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    if self.lease.renew().await {
                        // Another one wrote until now.
                        self.written.clear();
                        dirty = true;
                    }
                    continue;
                }
                _ = pass.tick() => {}
            }
            dirty |= self.told.has_changed().unwrap_or(false);
            dirty |= self.trust.has_changed().unwrap_or(false);
            let count = passes.is_multiple_of(PASSES_PER_COUNT);
            passes = passes.wrapping_add(1);
            dirty |= count && self.health.borrow_and_update().version != self.verdicts;
            if dirty || count {
                dirty = !self.pass(dirty, count).await;
                self.counted.notify_one();
            }
        }
    }

    /// Writes what is news; false: it could not be.
    async fn pass(&mut self, say: bool, count: bool) -> bool {
        let told = self.told.borrow_and_update().clone();
        if told.listings != self.listings {
            // What somebody deleted is written again.
            self.listings = told.listings;
            self.written.retain(|name, _| told.statuses.contains(name));
        }
        if self.refused && !count {
            return false;
        }
        let written = self.write(&told, say, count).await;
        let error = match written {
            Ok(()) => {
                self.refused = false;
                self.refusal_told = false;
                self.tell_unwritable(None);
                return true;
            }
            Err(error) => error,
        };
        let trouble = node::is_trouble(&error);
        self.refused = trouble || node::is_refusal(&error);
        if self.refused {
            let why = self.keeper.why(&error);
            if !std::mem::replace(&mut self.refusal_told, true) {
                warn!(
                    event = "registry_read_only",
                    "nothing is written to Redis: {why}"
                );
            }
            self.tell_unwritable(trouble.then_some(why));
        }
        false
    }

    /// Whether nothing can be written now, for those who ask.
    fn tell_unwritable(&self, why: Option<String>) {
        self.status.send_if_modified(|status| {
            let news = status.writer.unwritable != why;
            status.writer.unwritable = why;
            news
        });
    }

    async fn write(&mut self, told: &Told, say: bool, count: bool) -> Result<(), RedisError> {
        let mut link = self.keeper.link().await?;
        let written = async {
            if count {
                match link.ensure_writable().await {
                    // Who has no right to this may have one to all that is needed.
                    Err(error) if node::is_refusal(&error) => {}
                    writable => writable?,
                }
            }
            // What one is refused the other may be granted.
            let counted = match count {
                true => self.count(&mut link).await,
                false => Ok(()),
            };
            let counted = match counted {
                Err(error) if !node::is_refusal(&error) => return Err(error),
                counted => counted,
            };
            if say {
                self.say(&mut link, told).await?;
            }
            counted
        };
        let written = written.await;
        self.keeper.keep(link, written)
    }

    async fn say(&mut self, link: &mut Link, told: &Told) -> Result<(), RedisError> {
        if self.lease.held(Instant::now()) {
            self.say_statuses(link, told).await?;
        }
        let gone = told.view.gone.iter().map(|silent| {
            let (cluster, id) = (silent.cluster.clone(), silent.id.clone());
            (Key::Backend { cluster, id }, silent.heartbeat.clone())
        });
        link.reap(&gone.collect::<Vec<_>>()).await
    }

    async fn say_statuses(&mut self, link: &mut Link, told: &Told) -> Result<(), RedisError> {
        let health = Arc::clone(&self.health.borrow_and_update());
        self.verdicts = health.version;
        let trust = Arc::clone(&self.trust.borrow_and_update());
        let wanted: BTreeMap<String, Fields> = {
            let reports = told.view.reports.iter();
            let named = reports
                .filter_map(|it| Some((it.name.clone()?, fields(it, told, &health, &trust))));
            named.collect()
        };
        let news = wanted.iter();
        let news = news.filter(|(name, fields)| self.written.get(*name) != Some(fields));
        let news: Vec<_> = news
            .map(|(name, fields)| (name.clone(), fields.clone()))
            .collect();
        let known: BTreeSet<&String> = told.statuses.iter().chain(self.written.keys()).collect();
        let obsolete = known.into_iter().filter(|name| !wanted.contains_key(*name));
        let obsolete: Vec<String> = obsolete.cloned().collect();
        let (store, ours) = told.read;
        let passed = u64::try_from(ours.elapsed().as_millis()).unwrap_or(u64::MAX);
        let holder = match self.lease.is_lawless() {
            true => "",
            false => self.lease.holder(),
        };
        let now = store.saturating_add(passed);
        let failed = link.write_statuses(holder, &news, &obsolete, now).await?;
        self.written = wanted;
        for (name, _) in &failed {
            self.written.remove(name);
        }
        match failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Tells the store what was counted here, and learns what all have counted.
    async fn count(&mut self, link: &mut Link) -> Result<(), RedisError> {
        let news = self.counters.news(&self.events.counts());
        let Counted { totals, odd } = link.count(&news).await?;
        let odd = odd.into_iter();
        let odd = odd.map(|(place, error)| Rejected { place, error });
        let odd: Vec<Rejected> = odd.collect();
        log_rejected(&self.odd, &odd);
        let news_of_odd = self.odd != odd;
        self.odd = odd;
        if !std::mem::replace(&mut self.connected_told, true) {
            info!(event = "counters_connected", "counter backend ✓ (Redis)");
        }
        if self.counters.told(&news, totals) | news_of_odd {
            let (counters, odd) = (self.counters.totals(), self.odd.clone());
            self.status.send_modify(|status| {
                status.writer.counters = counters;
                status.writer.odd = odd;
            });
        }
        Ok(())
    }
}

/// What is written about a cluster.
fn fields(report: &Report, told: &Told, health: &HealthView, trust: &Trust) -> Fields {
    let clusters = &told.view.registry.config.clusters;
    let served = report.cluster.as_ref().and_then(|name| {
        let place = clusters.binary_search_by(|it| it.name.cmp(name)).ok()?;
        clusters.get(place)
    });
    let (counts, _) = survey(served, report.added, health);
    let report = warned(report, served, trust);
    let accepted = report.verdict == Verdict::Accepted;
    let mut fields = vec![
        ("accepted", accepted.to_string()),
        ("backends", counts.total.to_string()),
        ("registered", report.added.to_string()),
        ("normal", counts.normal.to_string()),
        ("healthy", counts.healthy.to_string()),
    ];
    if !report.error.is_empty() {
        fields.push(("error", report.error.clone()));
    }
    if let Some(warning) = &report.warning {
        fields.push(("warning", warning.clone()));
    }
    fields
}
