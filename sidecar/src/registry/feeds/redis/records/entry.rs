//! One cluster's records: its document, its registered backends, the operators' overrides on them.

use std::collections::BTreeMap;

use pointsman_filter::config::{
    BACKENDS_MAX, BackendConfig, CLUSTERS_MAX, ClusterConfig, ConfigErrors,
};

use super::{Change, GONE_MS, Reading, Report, STALE_MS, is_alive, soonest};
use crate::model::errors::error;
use crate::model::overrides::Override;
use crate::registry::document::etag;
use crate::registry::feeds::redis::record::{self, Registered};
use crate::registry::model::BadRecord;
use crate::registry::records::{Known, joined, merge};
use crate::stores::redis::layout::Key;
use crate::stores::redis::link::{Fields, Raw};

/// A heartbeat whose silence counts from a later moment only, ms of Redis time.
#[derive(Debug)]
struct Spared {
    heartbeat: u64,
    until: u64,
}

/// The records of one cluster.
#[derive(Debug, Default)]
pub struct Entry {
    document: Option<Known<ClusterConfig>>,
    /// What the document is, to the letter.
    etag: String,
    backends: BTreeMap<String, Known<Registered>>,
    /// The heartbeats that were spared, see [`Entry::spare`].
    spared: BTreeMap<String, Spared>,
    overrides: BTreeMap<String, Known<Override>>,
    /// The override's key does not hold a hash.
    overrides_error: Option<ConfigErrors>,
}

impl Entry {
    /// Nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.document.is_none()
            && self.backends.is_empty()
            && self.overrides.is_empty()
            && self.overrides_error.is_none()
    }

    /// Takes the last good version of one record over from an older entry.
    pub fn inherit(&mut self, key: &Key, before: &mut Entry) {
        match key {
            Key::Cluster(_) => {
                self.document = before.document.take();
                self.etag = std::mem::take(&mut before.etag);
            }
            Key::Backend { id, .. } => {
                if let Some(known) = before.backends.remove(id) {
                    self.backends.insert(id.clone(), known);
                }
                if let Some(spared) = before.spared.remove(id) {
                    self.spared.insert(id.clone(), spared);
                }
            }
            Key::Override(_) => self.overrides = std::mem::take(&mut before.overrides),
            Key::Status(_) | Key::Malformed(_) => {}
        }
    }

    /// Takes over the document; whether that is news.
    pub fn put_document(&mut self, name: &str, raw: &Raw) -> bool {
        let before = self.document.take();
        if *raw == Raw::Missing {
            return before.is_some();
        }
        let etag = match raw {
            Raw::Text(text) => etag(text),
            _ => String::new(),
        };
        let rewritten = std::mem::replace(&mut self.etag, etag) != self.etag;
        let (known, news) = Known::update(before, record::document(name, raw));
        self.document = Some(known);
        news || rewritten
    }

    /// Counts the silence of the heartbeats that were alive at `since` from `until` on.
    pub fn spare(&mut self, since: u64, until: u64) {
        let heartbeat = |known: &Known<Registered>| known.good.as_ref()?.heartbeat;
        let known = self.backends.iter();
        let known = known.filter_map(|(id, known)| Some((id, heartbeat(known)?)));
        let alive = known.filter(|(id, heartbeat)| is_alive(self.heard(id, *heartbeat), since));
        let spared = alive.map(|(id, heartbeat)| (id.clone(), Spared { heartbeat, until }));
        let spared: BTreeMap<String, Spared> = spared.collect();
        self.spared.extend(spared);
    }

    /// A heartbeat, or the moment until which it was spared.
    fn heard(&self, id: &str, heartbeat: u64) -> u64 {
        let spared = self.spared.get(id);
        let until = spared.filter(|it| it.heartbeat == heartbeat);
        until.map_or(heartbeat, |it| heartbeat.max(it.until))
    }

    /// Takes over a backend's own record.
    pub fn put_backend(&mut self, cluster: &str, id: String, raw: &Raw) -> Change {
        let before = self.backends.remove(&id);
        if *raw == Raw::Missing {
            self.spared.remove(&id);
            return Change::of(before.is_some());
        }
        let old = before
            .as_ref()
            .filter(|known| known.error.is_none())
            .and_then(|known| known.good.clone());
        let (known, news) = Known::update(before, record::registered(cluster, &id, raw));
        let beat = old.zip(known.good.as_ref()).and_then(|(old, new)| {
            let same = known.error.is_none() && old.backend == new.backend;
            old.heartbeat
                .filter(|before| same && new.heartbeat >= Some(*before))
        });
        let change = match beat {
            Some(before) if news => Change::Beat {
                before: self.heard(&id, before),
            },
            _ => Change::of(news),
        };
        self.backends.insert(id, known);
        change
    }

    /// Takes over the operators' overrides; whether they are news.
    pub fn put_overrides(&mut self, name: &str, raw: Raw) -> bool {
        let fields: Fields = match raw {
            Raw::Hash(fields) => fields,
            Raw::Missing => Vec::new(),
            Raw::Text(_) | Raw::WrongType => {
                let place = format!("overrides.{name}");
                self.overrides_error = Some(error(&place, "must be a hash"));
                self.overrides.retain(|_, known| {
                    known.error = None;
                    known.good.is_some()
                });
                return true;
            }
        };
        let mut news = self.overrides_error.take().is_some();
        let mut before = std::mem::take(&mut self.overrides);
        for (id, text) in fields {
            let id = String::from_utf8_lossy(&id).into_owned();
            let read = Override::parse(&format!("overrides.{name}[{id}]"), &text);
            let (known, new) = Known::update(before.remove(&id), read);
            news |= new;
            self.overrides.insert(id, known);
        }
        news || !before.is_empty()
    }

    /// Adds what it makes at `now`, ms of Redis time; `full`: there is room for no more clusters.
    pub fn read(&self, name: &str, now: u64, full: bool, reading: &mut Reading) {
        let mut errors = self.errors(name);
        if self.document.is_some() {
            let etag = self.etag.clone();
            reading.listing.etags.insert(name.to_owned(), etag);
        }
        for (id, known) in &self.overrides {
            if let Some(entry) = &known.good {
                reading.listing.overrides.put(name, id, entry.clone());
            }
        }
        let present = self.present(name, now, reading);
        let good = self.document.as_ref().and_then(|it| it.good.as_ref());
        let mut report = Report {
            accepted: false,
            error: String::new(),
            backends: 0,
            registered: 0,
        };
        if let Some(good) = good {
            let mut cluster = good.clone();
            let (registered, left) = merge(&mut cluster, present);
            if left > 0 {
                let why = format!("must be at most {BACKENDS_MAX}, {left} of them are left out");
                let place = format!("clusters.{name}.backends");
                errors.push((place.clone(), error(&place, why)));
            }
            if full {
                let why = format!("is beyond the {CLUSTERS_MAX} clusters that can be served");
                let place = format!("clusters.{name}");
                errors.push((place.clone(), error(&place, why)));
            } else {
                report.backends = cluster.backends.len();
                report.registered = registered;
                reading.listing.clusters.push(cluster);
            }
        }
        report.accepted = errors.is_empty();
        report.error = joined(errors.iter().map(|(_, error)| error));
        if report.accepted && good.is_none() {
            // Only overrides of a cluster that is not there: nothing to say of it.
            return;
        }
        for (place, errors) in errors {
            // The last good version is in the listing already.
            reading.listing.rejected.push(BadRecord {
                name: None,
                place,
                errors,
            });
        }
        reading.reports.insert(name.to_owned(), report);
    }

    /// Everything that is wrong with its records, each with its place.
    fn errors(&self, name: &str) -> Vec<(String, ConfigErrors)> {
        let place = format!("clusters.{name}");
        let mut errors = Vec::new();
        if let Some(document) = &self.document {
            errors.extend(document.error.clone().map(|error| (place, error)));
        } else if !self.backends.is_empty() {
            let count = self.backends.len();
            let why = format!("{count} backends registered, but no document");
            errors.push((place.clone(), error(&place, why)));
        }
        for (id, known) in &self.backends {
            let place = || format!("clusters.{name}.backends[{id}]");
            errors.extend(known.error.clone().map(|error| (place(), error)));
        }
        let overrides = self.overrides_error.clone();
        errors.extend(overrides.map(|error| (format!("overrides.{name}"), error)));
        for (id, known) in &self.overrides {
            let place = || format!("overrides.{name}[{id}]");
            errors.extend(known.error.clone().map(|error| (place(), error)));
        }
        errors
    }

    /// The registered backends that are alive.
    fn present(&self, name: &str, now: u64, reading: &mut Reading) -> Vec<&BackendConfig> {
        let mut present = Vec::with_capacity(self.backends.len());
        for (id, known) in &self.backends {
            let Some(good) = &known.good else {
                continue;
            };
            let Some(heartbeat) = good.heartbeat else {
                present.push(&good.backend);
                continue;
            };
            let heard = self.heard(id, heartbeat);
            if is_alive(heard, now) {
                present.push(&good.backend);
                soonest(&mut reading.due, heard.saturating_add(STALE_MS + 1));
            } else if now.saturating_sub(heard) > GONE_MS && known.error.is_none() {
                let (cluster, id) = (name.to_owned(), id.clone());
                reading.gone.push((Key::Backend { cluster, id }, heartbeat));
            }
        }
        present
    }
}
