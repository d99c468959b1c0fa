//! The one loop between a store and what is served: listen, debounce, reconcile, what is due, wishes
//! to reload, back-off. Whatever goes wrong with the store, the registry of before serves on.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::engine::{Engine, View};
use super::feed::{Feed, FeedError, News};
use super::model::{Output, Reachability, Registry, SourceStatus};
use crate::model::clock::{self, Moment};
use crate::model::event::Event;

/// Between two registries: a record at a time would make thousands of them out of one script. The
/// first change after a quiet time does not wait.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What the writer of statuses is told.
#[derive(Debug, Clone)]
pub struct Told {
    /// What became of each record.
    pub view: View,
    /// The clusters that had a status at the last full reading.
    pub statuses: Arc<BTreeSet<String>>,
    /// How often everything was read; what was written may be gone with the next time.
    pub listings: u64,
    /// The store's clock in ms, and ours, when it was read.
    pub read: (u64, Instant),
}

/// A store that is followed.
pub struct Follower<F> {
    feed: F,
    engine: Engine,
    reconcile_interval: Duration,
    told: watch::Sender<Told>,
    statuses: Arc<BTreeSet<String>>,
    /// When everything was read last, and how often that was.
    listed: Instant,
    listings: u64,
    /// How long that took.
    took: Duration,
    /// The last wish to reload that was granted.
    reloaded: u64,
    /// When the store was heard last, ms of our clock; `None`: it was not lost since.
    heard: Option<u64>,
    /// From where our clock counts.
    born: Instant,
    /// The last moment that was looked at.
    moment: Option<Moment>,
}

impl<F: Feed> Follower<F> {
    /// Nothing is read yet.
    pub fn new(feed: F, engine: Engine, reconcile_interval: Duration) -> Self {
        let told = Told {
            view: engine.view(),
            statuses: Arc::default(),
            listings: 0,
            read: (0, Instant::now()),
        };
        Follower {
            feed,
            engine,
            reconcile_interval,
            told: watch::Sender::new(told),
            statuses: Arc::default(),
            listed: Instant::now(),
            listings: 0,
            took: Duration::ZERO,
            reloaded: 0,
            heard: None,
            born: Instant::now(),
            moment: None,
        }
    }

    /// The store.
    pub fn feed(&self) -> &F {
        &self.feed
    }

    /// What is served.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(self.engine.registry())
    }

    /// For who writes statuses.
    pub fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Connects, for the first time.
    pub async fn open(&mut self) -> Result<(), FeedError> {
        self.feed.open().await
    }

    /// Reads the registry for the first time.
    pub async fn read(&mut self) -> Result<(), FeedError> {
        self.begin().await?;
        let now = self.now();
        self.engine.rebuild(now, true);
        Ok(())
    }

    /// Keeps the output in step with the store, which was read, for as long as it is polled.
    pub async fn run(mut self, output: Output) {
        let mut reloads = output.reloads.clone();
        let mut pause = F::BACKOFF.0;
        let mut lost = false;
        let mut opened = true;
        loop {
            let began = Instant::now();
            let mut wish = self.reloaded;
            let entered = match std::mem::replace(&mut opened, false) {
                // What is wished for since the first reading is still to be granted.
                true => Ok(()),
                false => {
                    // What is read from here on grants what was wished until here.
                    wish = *reloads.borrow_and_update();
                    self.enter(wish).await
                }
            };
            let error = match entered {
                Ok(()) => {
                    if std::mem::take(&mut lost) {
                        output.events.report(Event::RegistryRestored);
                    }
                    let Err(error) = self.follow(&output, &mut reloads).await;
                    self.heard = Some(self.now().steady);
                    // Who ends each session at once is asked less and less often.
                    if began.elapsed() > F::BACKOFF.1 {
                        pause = F::BACKOFF.0;
                    }
                    error
                }
                Err(error) => error,
            };
            let reason = error.to_string();
            let place = self.feed.place();
            output.status.send_modify(|status| {
                status.reachability = Reachability::Down;
                status.error = Some(format!("{place}: {reason}"));
                status.reloaded = wish.max(self.reloaded);
            });
            if !std::mem::replace(&mut lost, true) {
                output.events.report(Event::RegistryLost { reason });
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(F::BACKOFF.1),
                Ok(()) = reloads.changed() => {}
            }
        }
    }

    async fn enter(&mut self, wish: u64) -> Result<(), FeedError> {
        self.feed.open().await?;
        self.begin().await?;
        self.reloaded = wish;
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), FeedError> {
        self.list().await?;
        if let Some(heard) = self.heard.take() {
            let now = self.now();
            self.engine.records.spare(heard, now.steady);
        }
        self.engine.on_session(Instant::now());
        Ok(())
    }

    async fn list(&mut self) -> Result<(), FeedError> {
        let begun = Instant::now();
        let read = self.feed.list().await?;
        self.took = begun.elapsed();
        self.engine.on_listing(self.took);
        let now = self.now();
        self.engine.records.replace(read, now);
        self.statuses = Arc::new(self.engine.records.statuses().clone());
        self.listed = Instant::now();
        self.listings += 1;
        Ok(())
    }

    async fn follow(
        &mut self,
        output: &Output,
        reloads: &mut watch::Receiver<u64>,
    ) -> Result<Infallible, FeedError> {
        self.publish(output, true);
        let mut quiet = Instant::now() + DEBOUNCE;
        let mut news = false;
        loop {
            let (wake, full) = match news {
                true => (quiet, false),
                false => self.wake(),
            };
            if wake > Instant::now() {
                tokio::select! {
                    heard = self.feed.next() => {
                        match heard? {
                            News::Some(records) => {
                                news |= self.take(records);
                                continue;
                            }
                            News::Anything => self.list().await?,
                        }
                        self.publish(output, true);
                    }
                    Ok(()) = reloads.changed() => {
                        let wish = *reloads.borrow_and_update();
                        self.list().await?;
                        self.reloaded = wish;
                        self.publish(output, true);
                    }
                    () = sleep_until(wake) => continue,
                }
            } else {
                if full {
                    self.list().await?;
                }
                self.publish(output, full);
            }
            news = false;
            quiet = Instant::now() + DEBOUNCE;
        }
    }

    /// What the clocks say now.
    fn now(&mut self) -> Moment {
        let now = Moment {
            store: self.feed.now(),
            steady: u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        if let Some(before) = self.moment.replace(now) {
            self.engine.on_clock(before, now);
        }
        now
    }

    fn take(&mut self, records: Vec<super::record::Record>) -> bool {
        let now = self.now();
        let mut news = false;
        for record in records {
            news |= self.engine.records.put(record, now);
        }
        news
    }

    /// When to look again if nothing is heard until then, and whether at everything.
    fn wake(&self) -> (Instant, bool) {
        let reconcile = self.listed + self.reconcile_interval;
        let held = self.engine.wake();
        let full = held.map_or(reconcile, |held| held.min(reconcile));
        let due = self.engine.due();
        let due = due.map(|due| self.born + Duration::from_millis(due));
        match due {
            Some(due) if due < full => (due, false),
            _ => (full, true),
        }
    }

    /// Serves what the records make now, and then says so: who waits for a reload finds it served.
    fn publish(&mut self, output: &Output, full: bool) {
        let now = self.now();
        let events = self.engine.rebuild(now, full);
        output.serve(self.engine.registry());
        let read = SourceStatus {
            error: self.feed.trouble(),
            reachability: F::UP,
            kind: F::KIND,
            listings: self.listings,
            listing_took: self.took,
            synced: Some(Instant::now()),
            held: self.engine.held(),
            reloaded: self.reloaded,
            clock_ahead_ms: now
                .store
                .cast_signed()
                .wrapping_sub(clock::now().cast_signed()),
            writer: Default::default(),
        };
        output.status.send_modify(|status| {
            let writer = std::mem::take(&mut status.writer);
            *status = SourceStatus { writer, ..read };
        });
        output.report(events);
        output.report(self.engine.news());
        self.told.send_replace(Told {
            view: self.engine.view(),
            statuses: Arc::clone(&self.statuses),
            listings: self.listings,
            read: (now.store, Instant::now()),
        });
    }
}

#[cfg(test)]
mod tests;
