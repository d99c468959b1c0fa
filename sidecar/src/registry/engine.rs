//! From records to what is served; no IO and no clock of its own.

use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;

use super::guard::Guard;
use super::history::History;
use super::model::{Held, Listing, Registry, log_rejected};
use super::records::{Reading, Records, Report, Silent};
use crate::model::event::{Event, override_events};

/// The records of one store and the registry that is served of them.
pub struct Engine {
    exchange: ExchangeConfig,
    /// What the store holds.
    pub records: Records,
    /// The rule against losing it by accident.
    pub guard: Guard,
    last: Arc<Registry>,
    history: Arc<History>,
    reports: Arc<[Report]>,
    gone: Vec<Silent>,
    due: Option<u64>,
    held: Option<Held>,
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
            last: Arc::new(empty),
            history: Arc::default(),
            reports: Arc::default(),
            gone: Vec::new(),
            due: None,
            held: None,
        }
    }

    /// What is served.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.last
    }

    /// When time alone changes something, ms of the store's clock.
    pub fn due(&self) -> Option<u64> {
        self.due
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
            gone: self.gone.clone(),
        }
    }

    /// Reads the records at `now`, ms of the store's clock, as the registry they make, and lets the
    /// guard judge it; `full`: all of them were read anew.
    pub fn rebuild(&mut self, now: u64, full: bool) -> Vec<Event> {
        let Reading {
            listing,
            reports,
            due,
            gone,
        } = self.records.read(now);
        self.due = due;
        let next = Registry::new(listing, self.exchange.clone());
        let (mut events, held) = self.guard.rule(&self.last, &next, full);
        self.held = held;
        if held.is_some() {
            // What may be lost by accident is no reason to delete anything.
            self.gone.clear();
            return events;
        }
        self.gone = gone;
        self.reports = reports.into();
        log_rejected(&self.last.rejected, &next.rejected);
        let (before, after) = (&self.last.overrides, &next.overrides);
        events.extend(override_events(before, after, now));
        if next != *self.last {
            if next.config != self.last.config {
                next.log_changed();
                Arc::make_mut(&mut self.history).take(Some(&self.last), &next);
            }
            self.last = Arc::new(next);
        }
        events
    }
}
