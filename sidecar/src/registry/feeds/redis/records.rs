//! Everything Redis holds, as it was read last, and the registry that it makes.
//!
//! A record that turns bad keeps its last good version until it is repaired or gone.

mod entry;

use std::collections::{BTreeMap, BTreeSet};

use pointsman_filter::config::CLUSTERS_MAX;

use crate::model::errors::error;
use crate::registry::model::{BadRecord, Listing};
use crate::stores::redis::layout::Key;
use crate::stores::redis::link::Raw;
use entry::Entry;

/// A backend whose `heartbeatAt` is older is out, ms.
pub const STALE_MS: u64 = 90_000;
/// A backend whose `heartbeatAt` is older is deleted, ms.
pub const GONE_MS: u64 = 3_600_000;

/// What putting a record changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Only a backend's heartbeat, for a later one.
    Beat {
        /// From when the silence counted before, ms of Redis time.
        before: u64,
    },
    /// Something.
    Some,
}

impl Change {
    fn of(news: bool) -> Self {
        if news { Change::Some } else { Change::None }
    }
}

/// Whether a backend that was heard then is in at `now`, both ms of Redis time.
pub fn is_alive(heard: u64, now: u64) -> bool {
    now.saturating_sub(heard) <= STALE_MS
}

/// The records of Redis.
#[derive(Debug, Default)]
pub struct Records {
    clusters: BTreeMap<String, Entry>,
    odd: BTreeSet<String>,
}

/// What is to be written about a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Nothing is wrong with its records.
    pub accepted: bool,
    /// What is.
    pub error: String,
    /// The backends it is served with.
    pub backends: usize,
    /// How many of these registered themselves.
    pub registered: usize,
}

impl Report {
    /// As it is written.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("accepted", self.accepted.to_string()),
            ("backends", self.backends.to_string()),
            ("registered", self.registered.to_string()),
        ];
        if !self.error.is_empty() {
            fields.push(("error", self.error.clone()));
        }
        fields
    }
}

/// What the records make at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    /// The registry.
    pub listing: Listing,
    /// By cluster.
    pub reports: BTreeMap<String, Report>,
    /// When time alone changes something, ms of Redis time.
    pub due: Option<u64>,
    /// Backends that have been silent for so long that they go, with their last `heartbeatAt`.
    pub gone: Vec<(Key, u64)>,
}

impl Records {
    /// Takes over a full reading: what it does not name is gone.
    pub fn replace(&mut self, read: Vec<(Key, Raw)>) {
        let mut before = std::mem::take(self);
        for (key, raw) in read {
            if let Some(entry) = name_of(&key).and_then(|name| before.clusters.get_mut(name)) {
                let last = self.clusters.entry(name_of(&key).unwrap_or("").to_owned());
                last.or_default().inherit(&key, entry);
            }
            self.put(key, raw);
        }
    }

    /// While the store was away, from `since` until `until` (ms of Redis time), nobody could send a
    /// heartbeat: who was alive until then has the whole time again. A process that has just started
    /// knows nothing of what was before, so it says `since` zero and all are spared.
    pub fn spare(&mut self, since: u64, until: u64) {
        for entry in self.clusters.values_mut() {
            entry.spare(since, until);
        }
    }

    /// Takes over what stands under one key now.
    pub fn put(&mut self, key: Key, raw: Raw) -> Change {
        let missing = raw == Raw::Missing;
        let name = match key {
            Key::Status(_) => return Change::None,
            Key::Malformed(text) if missing => return Change::of(self.odd.remove(&text)),
            Key::Malformed(text) => return Change::of(self.odd.insert(text)),
            Key::Cluster(ref name) | Key::Override(ref name) => name.clone(),
            Key::Backend { ref cluster, .. } => cluster.clone(),
        };
        let entry = self.clusters.entry(name.clone()).or_default();
        let change = match key {
            Key::Backend { id, .. } => entry.put_backend(&name, id, &raw),
            Key::Override(_) => Change::of(entry.put_overrides(&name, raw)),
            _ => Change::of(entry.put_document(&name, &raw)),
        };
        if entry.is_empty() {
            self.clusters.remove(&name);
        }
        change
    }

    /// The registry at `now`, ms of Redis time.
    pub fn read(&self, now: u64) -> Reading {
        let mut reading = Reading::default();
        for key in &self.odd {
            let errors = error(key, "is not the key of a cluster's record");
            let place = key.clone();
            reading.listing.rejected.push(BadRecord {
                name: None,
                place,
                errors,
            });
        }
        for (name, entry) in &self.clusters {
            let full = reading.listing.clusters.len() >= CLUSTERS_MAX;
            entry.read(name, now, full, &mut reading);
        }
        if let Some(end) = reading.listing.obey(now) {
            soonest(&mut reading.due, end);
        }
        reading
    }
}

fn soonest(due: &mut Option<u64>, at: u64) {
    *due = Some(due.map_or(at, |due| due.min(at)));
}

fn name_of(key: &Key) -> Option<&str> {
    match key {
        Key::Cluster(name) | Key::Override(name) => Some(name),
        Key::Backend { cluster, .. } => Some(cluster),
        Key::Status(_) | Key::Malformed(_) => None,
    }
}

#[cfg(test)]
mod tests;
