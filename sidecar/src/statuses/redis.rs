//! Writes into Redis what became of each cluster's records, what was counted here, and an end to
//! backends long silent. Over a connection of its own: who reads the registry never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::RedisError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::counters::Counters;
use crate::registry::SourceStatus;
use crate::registry::follow::Told;
use crate::registry::records::{Report, Verdict};
use crate::settings::RedisSettings;
use crate::stores::redis::layout::{Key, Layout};
use crate::stores::redis::link::Link;
use crate::stores::redis::node;
use crate::telemetry::events::Events;

/// Between two passes over what there is to say.
const PASS_INTERVAL: Duration = Duration::from_millis(100);
/// Passes from one telling of the counts to the next.
const PASSES_PER_COUNT: u32 = 10;

/// What is written about one cluster.
type Fields = Vec<(&'static str, String)>;

/// The writer.
pub struct Writer {
    settings: RedisSettings,
    layout: Layout,
    told: watch::Receiver<Told>,
    status: watch::Sender<SourceStatus>,
    events: Events,
    link: Option<Link>,
    /// What stands under the status keys.
    written: BTreeMap<String, Fields>,
    counters: Counters,
    /// Which reading `written` is of.
    listings: u64,
    /// The store refuses to be written; tried again with the next full reading.
    refused: bool,
    /// That was said already.
    refusal_told: bool,
    connected_told: bool,
}

impl Writer {
    /// Nothing is written yet.
    pub fn new(
        settings: RedisSettings,
        told: watch::Receiver<Told>,
        status: watch::Sender<SourceStatus>,
        events: Events,
    ) -> Self {
        Writer {
            layout: Layout::new(&settings.root),
            settings,
            told,
            status,
            events,
            link: None,
            written: BTreeMap::new(),
            counters: Counters::default(),
            listings: 0,
            refused: false,
            refusal_told: false,
            connected_told: false,
        }
    }

    /// Writes until told to stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let writing = async {
            let mut pass = interval(PASS_INTERVAL);
            pass.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut passes: u32 = 0;
            let mut dirty = true;
            loop {
                pass.tick().await;
                dirty |= self.told.has_changed().unwrap_or(false);
                let count = passes.is_multiple_of(PASSES_PER_COUNT);
                passes = passes.wrapping_add(1);
                if dirty || count {
                    dirty = !self.pass(dirty, count).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = writing => {}
        }
        Ok(())
    }

    /// Writes what is news; false: it could not be.
    async fn pass(&mut self, say: bool, count: bool) -> bool {
        let told = self.told.borrow_and_update().clone();
        if told.listings != self.listings {
            // What somebody deleted is written again.
            self.listings = told.listings;
            self.written.retain(|name, _| told.statuses.contains(name));
            self.refused = false;
        }
        if self.refused {
            return true;
        }
        let written = self.write(&told, say, count).await;
        let Err(error) = written else {
            return true;
        };
        if node::is_refusal(&error) {
            self.refused = true;
            if !std::mem::replace(&mut self.refusal_told, true) {
                let why = self.settings.url.redact(&error.to_string());
                warn!(
                    event = "registry_read_only",
                    "nothing is written to Redis: {why}"
                );
            }
            return true;
        }
        self.link = None;
        false
    }

    async fn write(&mut self, told: &Told, say: bool, count: bool) -> Result<(), RedisError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.settings, &self.layout).await?,
        };
        if say {
            self.say(&mut link, told).await?;
        }
        if count {
            self.count(&mut link).await?;
        }
        self.link = Some(link);
        Ok(())
    }

    async fn say(&mut self, link: &mut Link, told: &Told) -> Result<(), RedisError> {
        let reports = told.view.reports.iter();
        let wanted =
            reports.filter_map(|report| Some((report.name.clone()?, fields(report, told))));
        let wanted: BTreeMap<String, Fields> = wanted.collect();
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
        link.write_statuses(&news, &obsolete, store.saturating_add(passed))
            .await?;
        self.written = wanted;
        let gone = told.view.gone.iter().map(|silent| {
            let (cluster, id) = (silent.cluster.clone(), silent.id.clone());
            (Key::Backend { cluster, id }, silent.heartbeat)
        });
        link.reap(&gone.collect::<Vec<_>>()).await
    }

    /// Tells the store what was counted here, and learns what all have counted.
    async fn count(&mut self, link: &mut Link) -> Result<(), RedisError> {
        let news = self.counters.news(&self.events.counts());
        let totals = link.count(&news).await?;
        if !std::mem::replace(&mut self.connected_told, true) {
            info!(event = "counters_connected", "counter backend ✓ (Redis)");
        }
        if self.counters.told(&news, totals) {
            let totals = self.counters.totals();
            self.status.send_modify(|status| status.counters = totals);
        }
        Ok(())
    }
}

/// What is written about a cluster.
fn fields(report: &Report, told: &Told) -> Fields {
    let clusters = &told.view.registry.config.clusters;
    let served = report.cluster.as_ref().and_then(|name| {
        let place = clusters.binary_search_by(|it| it.name.cmp(name)).ok()?;
        clusters.get(place)
    });
    let accepted = report.verdict == Verdict::Accepted;
    let mut fields = vec![
        ("accepted", accepted.to_string()),
        (
            "backends",
            served.map_or(0, |it| it.backends.len()).to_string(),
        ),
        ("registered", report.added.to_string()),
    ];
    if !report.error.is_empty() {
        fields.push(("error", report.error.clone()));
    }
    fields
}
