//! From records to what is served; no IO and no clock of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use tokio::time::Instant;

use super::guard::Guard;
use super::history::History;
use super::model::{Held, Listing, Registry, log_rejected};
use super::records::{Faults, Reading, Records, Report, Silent};
use super::warnings;
use crate::model::clock::Moment;
use crate::model::event::{Event, override_events};
use crate::model::size::Size;

/// A store's clock that was set may have been right before or be right now. For so long, ms, it ends and
/// begins no override that is known; then it is believed.
const DOUBT_MS: u64 = 3_600_000;
/// A full reading that takes longer is slow.
const SLOW: Duration = Duration::from_secs(1);
/// What differs by no more was not set, but read at another moment or set right by little, ms.
const STEP_MIN_MS: u64 = 60_000;

/// The records of one store and the registry that is served of them.
pub struct Engine {
    exchange: ExchangeConfig,
    /// What the store holds.
    pub records: Records,
    /// The rule against losing it by accident.
    guard: Guard,
    /// The same rule for backends that are deleted because they are silent.
    reaper: Guard,
    last: Arc<Registry>,
    history: Arc<History>,
    reports: Arc<[Report]>,
    /// Backends that are to be deleted.
    gone: BTreeSet<Silent>,
    due: Option<u64>,
    held: Option<Held>,
    /// When a clock that was set is believed, ms of our clock.
    believed_at: Option<u64>,
    /// What happened and is not told yet.
    news: Vec<Event>,
    faults: Faults,
    /// The last full reading was slow.
    slow: bool,
}

/// What became of each record, for who writes it back to the store.
#[derive(Debug, Clone)]
pub struct View {
    /// What is served.
    pub registry: Arc<Registry>,
    /// Which revisions there were before, and what each cluster was in them.
    pub history: Arc<History>,
    /// What is to be said of each record.
    pub reports: Arc<[Report]>,
    /// Backends to delete.
    pub gone: Vec<Silent>,
}

impl Engine {
    /// Nothing is read yet.
    pub fn new(exchange: ExchangeConfig, guard_delay: Duration) -> Self {
        let empty = Registry::new(Listing::default(), exchange.clone());
        Engine {
            exchange,
            records: Records::default(),
            guard: Guard::new(guard_delay),
            reaper: Guard::new(guard_delay),
            last: Arc::new(empty),
            history: Arc::default(),
            reports: Arc::default(),
            gone: BTreeSet::new(),
            due: None,
            held: None,
            believed_at: None,
            news: Vec::new(),
            faults: Faults::new(),
            slow: false,
        }
    }

    /// A new connection to the store; see [`Guard::on_session`].
    pub fn on_session(&mut self, now: Instant) {
        self.guard.on_session(now);
        self.reaper.on_session(now);
    }

    /// When a full reading is wanted to confirm what is held back.
    pub fn wake(&self) -> Option<Instant> {
        [&self.guard, &self.reaper]
            .into_iter()
            .filter_map(Guard::wake)
            .min()
    }

    /// Looks at the store's clock: what it was before, and what it is now.
    pub fn on_clock(&mut self, before: Moment, now: Moment) {
        let by_ms = before.step_to(now);
        if by_ms.unsigned_abs() >= STEP_MIN_MS {
            self.records.step(by_ms);
            self.believed_at = Some(now.steady.saturating_add(DOUBT_MS));
            self.news.push(Event::ClockStepped { by_ms });
        }
    }

    /// A full reading took so long.
    pub fn on_listing(&mut self, took: Duration) {
        let slow = took > SLOW;
        if slow && !self.slow {
            self.news.push(Event::RegistrySlow { took });
        }
        self.slow = slow;
    }

    /// What happened beside the registry since this was asked last.
    pub fn news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// What is served.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.last
    }

    /// When time alone changes something, ms of our clock.
    pub fn due(&self) -> Option<u64> {
        self.due.into_iter().chain(self.believed_at).min()
    }

    /// The loss that waits for its confirmation.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// For who writes statuses.
    pub fn view(&self) -> View {
        View {
            registry: Arc::clone(&self.last),
            history: Arc::clone(&self.history),
            reports: Arc::clone(&self.reports),
            gone: self.gone.iter().cloned().collect(),
        }
    }

    /// Reads the records at `now` as the registry they make, and lets the guard judge it; `full`: all of
    /// them were read anew.
    pub fn rebuild(&mut self, now: Moment, full: bool) -> Vec<Event> {
        if self.believed_at.take_if(|at| now.steady >= *at).is_some() {
            self.records.trust_clock();
        }
        let Reading {
            listing,
            reports,
            due,
            gone,
            guests,
            faults,
        } = self.records.read(now);
        self.due = due;
        self.on_faults(faults);
        let next = Registry::new(listing, self.exchange.clone());
        let (mut events, held) = self.guard.rule(&self.last, &next, full);
        self.held = held;
        if held.is_some() {
            // What may be lost by accident is no reason to delete anything.
            self.gone.clear();
            return events;
        }
        events.extend(self.reap(gone, guests, full));
        self.reports = reports.into();
        log_rejected(&self.last.rejected, &next.rejected);
        let (before, after) = (&self.last.overrides, &next.overrides);
        events.extend(override_events(before, after, now.store));
        if next != *self.last {
            if next.config != self.last.config {
                next.log_changed();
                warnings::log(&self.last.config.clusters, &next.config.clusters);
                Arc::make_mut(&mut self.history).take(Some(&self.last), &next);
            }
            self.last = Arc::new(next);
        }
        events
    }

    /// Deletes these of so many registered backends, unless that is a loss by accident.
    fn reap(&mut self, silent: Vec<Silent>, guests: usize, full: bool) -> Vec<Event> {
        let silent: BTreeSet<Silent> = silent.into_iter().collect();
        // What may be deleted may be until it is, or is heard again.
        self.gone.retain(|it| silent.contains(it));
        let all = Size {
            clusters: self.last.size().clusters,
            backends: guests,
        };
        let news = silent.len() - self.gone.len();
        let (events, granted) = self.reaper.reap(news, all, full);
        if granted {
            self.gone = silent;
        }
        events
    }

    fn on_faults(&mut self, faults: Faults) {
        for (name, reason) in &faults {
            if self.faults.get(name) != Some(reason) {
                let (cluster, backend) = name.clone();
                let reason = *reason;
                self.news.push(Event::HeartbeatImpossible {
                    cluster,
                    backend,
                    reason,
                });
            }
        }
        self.faults = faults;
    }
}
