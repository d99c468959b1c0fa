//! Everything a store holds, as it was read last, and the registry that it makes.
//!
//! One rule for every store: a record that turns bad keeps its last good version until it is repaired
//! or gone; of several documents with one name the one with the lowest rank has it.

mod judged;
mod known;
mod overrides;
mod reading;
mod registered;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_filter::config::ConfigErrors;

use super::record::{Record, What};
use super::services::Services;
use crate::model::clock::Moment;
use judged::Judged;
use overrides::OverrideSet;
pub use reading::{Faults, Reading, Report, Silent, Verdict};
use registered::Guest;

/// The records of a store.
#[derive(Debug, Default)]
pub struct Records {
    /// By place.
    entries: BTreeMap<String, Entry>,
    /// The clusters that have a status.
    statuses: BTreeSet<String>,
    services: Arc<Services>,
}

/// What is known of one place.
#[derive(Debug)]
enum Entry {
    Document(Box<Judged>),
    Guest(Guest),
    Overrides { cluster: String, set: OverrideSet },
    Malformed(ConfigErrors),
}

impl Records {
    /// Takes over a full reading at `now`: what it does not name is gone.
    pub fn replace(&mut self, read: Vec<Record>, now: Moment) {
        let mut before = std::mem::take(&mut self.entries);
        self.statuses.clear();
        for record in read {
            if let Some(last) = before.remove(&record.place) {
                self.entries.insert(record.place.clone(), last);
            }
            self.put(record, now);
        }
    }

    /// Takes over what stands at one place at `now`; whether the registry may be another one.
    pub fn put(&mut self, record: Record, now: Moment) -> bool {
        let Record { place, rank, what } = record;
        let before = self.entries.remove(&place);
        let (entry, news) = match what {
            What::Gone => return before.is_some(),
            What::Services(services) => {
                self.services = services;
                return true;
            }
            What::Status(cluster) => {
                self.statuses.insert(cluster);
                return false;
            }
            What::Document(document) => {
                let before = match before {
                    Some(Entry::Document(before)) => Some(*before),
                    _ => None,
                };
                let (judged, news) = Judged::update(before, rank, document);
                (Entry::Document(Box::new(judged)), news)
            }
            What::Backend { cluster, id, said } => {
                let before = match before {
                    Some(Entry::Guest(before)) => Some(before),
                    _ => None,
                };
                let (guest, news) = Guest::update(before, (cluster, id), said, now);
                (Entry::Guest(guest), news)
            }
            What::Overrides { cluster, read } => {
                let (mut set, new) = match before {
                    Some(Entry::Overrides { set, .. }) => (set, false),
                    _ => (OverrideSet::default(), true),
                };
                let news = set.update(read) || new;
                (Entry::Overrides { cluster, set }, news)
            }
            What::Malformed(errors) => {
                let same = matches!(&before, Some(Entry::Malformed(old)) if *old == errors);
                (Entry::Malformed(errors), !same)
            }
        };
        self.entries.insert(place, entry);
        news
    }

    /// The store was heard until `heard` and is back since `now`, ms of our clock; see
    /// [`Guest::spare`].
    pub fn spare(&mut self, heard: u64, now: u64) {
        for entry in self.entries.values_mut() {
            if let Entry::Guest(guest) = entry {
                guest.spare(heard, now);
            }
        }
    }

    /// The store's clock was set ahead by so many ms: the overrides that are known begin and end when
    /// they would have.
    pub fn step(&mut self, by_ms: i64) {
        for set in self.override_sets() {
            set.step(by_ms);
        }
    }

    /// From now on the store's clock is right, however often it was set.
    pub fn trust_clock(&mut self) {
        for set in self.override_sets() {
            set.trust_clock();
        }
    }

    fn override_sets(&mut self) -> impl Iterator<Item = &mut OverrideSet> {
        let entries = self.entries.values_mut();
        entries.filter_map(|entry| match entry {
            Entry::Document(judged) => Some(&mut judged.overrides),
            Entry::Overrides { set, .. } => Some(set),
            Entry::Guest(_) | Entry::Malformed(_) => None,
        })
    }

    /// The clusters that have a status.
    pub fn statuses(&self) -> &BTreeSet<String> {
        &self.statuses
    }
}

#[cfg(test)]
mod tests;
