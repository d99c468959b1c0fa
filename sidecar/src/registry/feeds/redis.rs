//! The registry in Redis. The server's change notices (client tracking) are asked for before the first
//! reading, so no change can fall between the two.

mod editor;
mod record;
mod start_error;

use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use redis::RedisError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tracing::info;

use crate::registry::engine::Engine;
use crate::registry::feed::{Feed, FeedError, News};
use crate::registry::follow::Follower;
use crate::registry::model::{Reachability, StoreKind};
use crate::registry::record::Record;
use crate::settings::RedisSettings;
use crate::stores::redis::hints::Heard;
use crate::stores::redis::layout::Layout;
use crate::stores::redis::link::Link;
pub use editor::RedisEditor;
pub use start_error::RedisStartError;

/// How often the server is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// What is read from Redis, and how its changes are heard.
pub struct RedisFeed {
    settings: RedisSettings,
    layout: Layout,
    link: Option<Link>,
    /// The change notices are asked for on this connection.
    tracked: bool,
    /// The store's clock in ms, and ours, at one moment.
    clock: (u64, Instant),
    ping: Interval,
    /// Which database that is; no notice tells of one that is swapped for another.
    identity: Option<Vec<u8>>,
    /// What was heard and is not read yet.
    heard: Heard,
}

impl RedisFeed {
    /// Connects and reads the registry; there is nothing to fall back on yet, so an error is the end.
    pub async fn start(
        settings: RedisSettings,
        exchange: ExchangeConfig,
    ) -> Result<Follower<Self>, RedisStartError> {
        let url = settings.url.clone();
        let engine = Engine::new(exchange, settings.guard_delay);
        let reconcile_interval = settings.reconcile_interval;
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let feed = RedisFeed {
            layout: Layout::new(&settings.root),
            settings,
            link: None,
            tracked: false,
            clock: (0, Instant::now()),
            ping,
            identity: None,
            heard: Heard::default(),
        };
        let mut follower = Follower::new(feed, engine, reconcile_interval);
        let connected = follower.open().await;
        connected.map_err(|FeedError(why)| RedisStartError::Connect {
            url: url.clone(),
            why,
        })?;
        let read = follower.read().await;
        read.map_err(|FeedError(why)| RedisStartError::Read {
            url: url.clone(),
            why,
        })?;
        info!(event = "registry_connected", "registry ✓ (Redis at {url})");
        Ok(follower)
    }

    /// What it was told of Redis.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// The way to change it.
    pub fn editor(&self) -> RedisEditor {
        RedisEditor::new(&self.settings)
    }

    fn link(&mut self) -> Result<&mut Link, FeedError> {
        let none = || FeedError("there is no connection".to_owned());
        self.link.as_mut().ok_or_else(none)
    }

    async fn track(&mut self) -> Result<(), RedisError> {
        if let Some(link) = self.link.as_mut().filter(|_| !self.tracked) {
            link.track().await?;
            self.tracked = true;
        }
        Ok(())
    }

    fn error(&self, error: &RedisError) -> FeedError {
        FeedError(self.settings.url.redact(&error.to_string()))
    }
}

impl Feed for RedisFeed {
    const KIND: StoreKind = StoreKind::Redis;
    const UP: Reachability = Reachability::Up;
    const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

    async fn open(&mut self) -> Result<(), FeedError> {
        self.link = None;
        self.tracked = false;
        self.heard = Heard::default();
        let opened = Link::open(&self.settings, &self.layout).await;
        self.link = Some(opened.map_err(|error| self.error(&error))?);
        Ok(())
    }

    async fn list(&mut self) -> Result<Vec<Record>, FeedError> {
        let tracked = self.track().await;
        tracked.map_err(|error| self.error(&error))?;
        let link = self.link()?;
        let read = async {
            let identity = link.identity().await?;
            Ok((identity, link.everything().await?, link.time().await?))
        };
        let read: Result<_, RedisError> = read.await;
        let (identity, everything, now) = read.map_err(|error| self.error(&error))?;
        self.clock = (now, Instant::now());
        self.identity = identity;
        let layout = &self.layout;
        let records = everything.into_iter();
        Ok(records
            .map(|(key, raw)| record::record(layout, key, raw))
            .collect())
    }

    async fn next(&mut self) -> Result<News, FeedError> {
        loop {
            if self.heard.closed {
                return Err(FeedError("the server closed the connection".to_owned()));
            }
            if self.heard.all {
                self.heard = Heard::default();
                return Ok(News::Anything);
            }
            let keys = self.heard.keys.iter();
            let keys: Vec<_> = keys.filter_map(|key| self.layout.parse(key)).collect();
            let link = self.link.as_mut();
            let link = link.ok_or_else(|| FeedError("there is no connection".to_owned()))?;
            if keys.is_empty() {
                let hints = link.hints();
                tokio::select! {
                    heard = hints.next() => self.heard = heard,
                    _ = self.ping.tick() => {
                        let alive = async {
                            link.ping().await?;
                            Ok((link.time().await?, link.identity().await?))
                        };
                        let alive: Result<_, RedisError> = alive.await;
                        let (now, identity) = alive.map_err(|error| self.error(&error))?;
                        self.clock = (now, Instant::now());
                        if self.identity != identity {
                            return Ok(News::Anything);
                        }
                    }
                }
                continue;
            }
            let read = async { Ok((link.read(keys).await?, link.time().await?)) };
            let read: Result<_, RedisError> = read.await;
            let (read, now) = read.map_err(|error| self.error(&error))?;
            self.clock = (now, Instant::now());
            // Only now: who is dropped while it reads reads again.
            self.heard = Heard::default();
            let layout = &self.layout;
            let records = read.into_iter();
            let records = records.map(|(key, raw)| record::record(layout, key, raw));
            return Ok(News::Some(records.collect()));
        }
    }

    fn now(&self) -> u64 {
        let (store, ours) = self.clock;
        let passed = u64::try_from(ours.elapsed().as_millis()).unwrap_or(u64::MAX);
        store.saturating_add(passed)
    }

    fn place(&self) -> String {
        format!("Redis at {}", self.settings.url)
    }
}

#[cfg(test)]
mod tests;
