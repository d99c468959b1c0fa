//! A connection whose registry has been read, and what is remembered with it.

use tokio::time::Instant;

use crate::stores::redis::link::Link;

/// One session; dropped, its connection closes.
pub struct Session {
    /// The way to the store.
    pub connection: Link,
    /// The store's clock in ms, and ours, at one moment.
    pub clock: (u64, Instant),
    /// When everything was read last.
    pub listed: Instant,
    /// The store refused what was to be written; tried again with the next full reading.
    pub refused: bool,
    /// That was said already.
    pub refusal_told: bool,
}

impl Session {
    /// A session that begins now, when the store's clock says `store_ms`.
    pub fn new(connection: Link, store_ms: u64) -> Self {
        let now = Instant::now();
        Session {
            connection,
            clock: (store_ms, now),
            listed: now,
            refused: false,
            refusal_told: false,
        }
    }

    /// The store's time now, ms.
    pub fn store_time(&self) -> u64 {
        let (store, ours) = self.clock;
        let passed = u64::try_from(ours.elapsed().as_millis()).unwrap_or(u64::MAX);
        store.saturating_add(passed)
    }
}
