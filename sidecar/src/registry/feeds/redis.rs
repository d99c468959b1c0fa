//! The registry in Redis: read as a whole, then kept in step by the server's change notices.
//!
//! A session is one connection: it asks to be told of changes, reads everything, and then reads
//! what it is told has changed. Whatever goes wrong ends the session; the registry of before serves
//! on, and a new session starts over. [`records`] are the rules.

mod counters;
mod editor;
mod record;
mod records;
mod session;
mod start_error;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use redis::{ErrorKind, RedisError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::info;

use crate::model::event::{Event, override_events};
use crate::registry::follow::{self, Sessions};
use crate::registry::guard::Guard;
use crate::registry::model::{
    Held, Listing, Output, Reachability, Registry, SourceStatus, StoreKind, log_rejected,
};
use crate::settings::{RedisSettings, RedisUrl};
use crate::stores::redis::layout::{Key, Layout};
use crate::stores::redis::link::Link;
use counters::Counters;
pub use editor::RedisEditor;
use records::{Change, Reading, Records, Report, is_alive};
use session::Session;
pub use start_error::RedisStartError;

/// How often a session asks whether the server is still there.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The first and the longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The registry's source in Redis.
pub struct RedisFeed {
    settings: RedisSettings,
    layout: Layout,
    exchange: ExchangeConfig,
    records: Records,
    guard: Guard,
    last: Arc<Registry>,
    /// When the store was heard last, ms of its clock; zero: never before.
    heard: u64,
    /// When time alone changes something, ms of the store's clock.
    due: Option<u64>,
    /// What is to be said of each cluster.
    wanted: BTreeMap<String, Report>,
    /// What stands under the status keys.
    written: BTreeMap<String, Report>,
    /// Status keys of an earlier life, or of clusters that are gone.
    obsolete: BTreeSet<String>,
    /// Silent backends to delete.
    gone: Vec<(Key, u64)>,
    first: Option<Session>,
    listings: u64,
    counters: Counters,
    /// The last wish for a full reading that was granted.
    reloaded: u64,
}

impl RedisFeed {
    /// Connects and reads the registry; there is nothing to fall back on yet, so an error is the
    /// end.
    pub async fn open(
        settings: RedisSettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, RedisStartError> {
        let layout = Layout::new(&settings.root);
        let url = settings.url.clone();
        let why = |error: &RedisError| url.redact(&error.to_string());
        let connection = Link::open(&settings, &layout).await;
        let connection = connection.map_err(|error| RedisStartError::Connect {
            url: url.clone(),
            why: why(&error),
        })?;
        let empty = Registry::new(Listing::default(), exchange.clone());
        let mut redis = RedisFeed {
            guard: Guard::new(settings.guard_delay),
            layout,
            settings,
            exchange,
            records: Records::default(),
            last: Arc::new(empty),
            heard: 0,
            due: None,
            wanted: BTreeMap::new(),
            written: BTreeMap::new(),
            obsolete: BTreeSet::new(),
            gone: Vec::new(),
            first: None,
            listings: 0,
            counters: Counters::default(),
            reloaded: 0,
        };
        let unreadable = |error: RedisError| RedisStartError::Read {
            url: url.clone(),
            why: why(&error),
        };
        let mut session = redis.begin_on(connection).await.map_err(unreadable)?;
        redis.rebuild(&session, true);
        info!(event = "registry_connected", "registry ✓ (Redis at {url})");
        let counted = redis.count_from(&mut session, &[]).await;
        if counted.map_err(unreadable)? {
            info!(event = "counters_connected", "counter backend ✓ (Redis)");
        }
        redis.first = Some(session);
        Ok(redis)
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.last)
    }

    /// Where it is, without the password.
    pub fn url(&self) -> &RedisUrl {
        &self.settings.url
    }

    /// The way to change it.
    pub fn editor(&self) -> RedisEditor {
        RedisEditor::new(self.settings.clone(), self.layout.clone())
    }

    /// Keeps the output in step with the store for as long as it is polled.
    pub async fn run(mut self, output: Output) {
        if let Some(first) = self.first.take() {
            follow::run(self, first, output).await;
        }
    }

    /// First the notices, then the reading: no change can fall between the two.
    async fn begin_on(&mut self, mut connection: Link) -> Result<Session, RedisError> {
        connection.track().await?;
        let began = connection.time().await?;
        let mut session = Session::new(connection, began);
        self.list(&mut session).await?;
        self.records.spare(self.heard, began);
        self.guard.on_session(Instant::now());
        Ok(session)
    }

    /// Reads everything.
    async fn list(&mut self, session: &mut Session) -> Result<(), RedisError> {
        let everything = session.connection.everything().await?;
        session.clock = (session.connection.time().await?, Instant::now());
        session.listed = Instant::now();
        session.refused = false;
        self.listings += 1;
        self.records.replace(everything.records);
        // What somebody deleted is written again, what is nobody's is deleted.
        self.written
            .retain(|name, _| everything.statuses.contains(name));
        self.obsolete = everything.statuses;
        Ok(())
    }

    async fn follow_changes(
        &mut self,
        session: &mut Session,
        output: &Output,
    ) -> Result<Infallible, RedisError> {
        let hints = session.connection.hints();
        let mut reloads = output.reloads.clone();
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish(session, output, true).await?;
        loop {
            let (wake, full) = self.wake(session);
            tokio::select! {
                heard = hints.next() => {
                    if heard.closed {
                        let why = "the server closed the connection";
                        return Err(RedisError::from((ErrorKind::Io, why)));
                    }
                    if heard.all {
                        self.list(session).await?;
                    } else if !self.reread(session, &heard.keys).await? {
                        continue;
                    }
                    self.publish(session, output, heard.all).await?;
                }
                Ok(()) = reloads.changed() => {
                    let wish = *reloads.borrow_and_update();
                    self.list(session).await?;
                    self.reloaded = wish;
                    self.publish(session, output, true).await?;
                }
                () = sleep_until(wake) => {
                    if full {
                        self.list(session).await?;
                    }
                    self.publish(session, output, full).await?;
                }
                _ = ping.tick() => {
                    session.connection.ping().await?;
                    self.count(session, output).await?;
                }
            }
        }
    }

    /// Reads what has changed; false: nothing did that the registry shows.
    async fn reread(
        &mut self,
        session: &mut Session,
        keys: &BTreeSet<Vec<u8>>,
    ) -> Result<bool, RedisError> {
        let keys = keys.iter().filter_map(|key| self.layout.parse(key));
        let read = session.connection.read(keys.collect()).await?;
        let now = session.store_time();
        let mut news = false;
        for (key, raw) in read {
            news |= match self.records.put(key, raw) {
                Change::None => false,
                // Who was alive is alive: not worth building the whole registry for.
                Change::Beat { before } => !is_alive(before, now),
                Change::Some => true,
            };
        }
        Ok(news)
    }

    /// When to look again if nothing is heard until then, and whether at everything.
    fn wake(&self, session: &Session) -> (Instant, bool) {
        let reconcile = session.listed + self.settings.reconcile_interval;
        let full = self
            .guard
            .wake()
            .map_or(reconcile, |held| held.min(reconcile));
        let due = self.due.map(|due| {
            let wait = due.saturating_sub(session.store_time());
            Instant::now() + Duration::from_millis(wait)
        });
        match due {
            Some(due) if due < full => (due, false),
            _ => (full, true),
        }
    }

    /// Serves what the records make now, and tells the store what became of them.
    async fn publish(
        &mut self,
        session: &mut Session,
        output: &Output,
        full: bool,
    ) -> Result<(), RedisError> {
        let (events, held) = self.rebuild(session, full);
        output.serve(&self.last);
        output.status.send_replace(SourceStatus {
            error: None,
            reachability: Reachability::Up,
            kind: StoreKind::Redis,
            listings: self.listings,
            synced: Some(Instant::now()),
            held,
            reloaded: self.reloaded,
            counters: self.counters.totals(),
        });
        output.report(events);
        let reported = self.report(session).await;
        self.tolerate_refusal(session, reported)
    }

    /// Reads the records as the registry they make, and lets the guard judge it.
    fn rebuild(&mut self, session: &Session, full: bool) -> (Vec<Event>, Option<Held>) {
        let Reading {
            listing,
            reports,
            due,
            gone,
        } = self.records.read(session.store_time());
        self.due = due;
        let next = Registry::new(listing, self.exchange.clone());
        let (mut events, held) = self.guard.rule(&self.last, &next, full);
        if held.is_some() {
            // What may be lost by accident is no reason to delete anything.
            self.obsolete.clear();
            self.gone.clear();
            return (events, held);
        }
        self.gone = gone;
        self.obsolete.extend(self.written.keys().cloned());
        self.obsolete.retain(|name| !reports.contains_key(name));
        self.wanted = reports;
        log_rejected(&self.last.rejected, &next.rejected);
        let (before, after) = (&self.last.overrides, &next.overrides);
        events.extend(override_events(before, after, session.store_time()));
        if next != *self.last {
            next.log_changed();
            self.last = Arc::new(next);
        }
        (events, None)
    }
}

impl Sessions for RedisFeed {
    type Session = Session;
    type Error = RedisError;

    const BACKOFF: (Duration, Duration) = BACKOFF;

    async fn begin(&mut self) -> Result<Session, RedisError> {
        let connection = Link::open(&self.settings, &self.layout).await?;
        self.begin_on(connection).await
    }

    fn granted(&mut self, wish: u64) {
        self.reloaded = wish;
    }

    async fn follow(
        &mut self,
        mut session: Session,
        output: &Output,
    ) -> Result<Infallible, RedisError> {
        let ended = self.follow_changes(&mut session, output).await;
        self.heard = session.store_time();
        ended
    }

    fn place(&self) -> String {
        format!("Redis at {}", self.settings.url)
    }

    fn why(&self, error: &RedisError) -> String {
        self.settings.url.redact(&error.to_string())
    }
}
