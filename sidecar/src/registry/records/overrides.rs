//! The overrides on one cluster's backends, each in its last good version.

use std::collections::BTreeMap;

use pointsman_filter::config::ConfigErrors;

use super::known::Known;
use crate::model::overrides::{Override, Overrides};
use crate::registry::record::Entries;

/// One of them.
#[derive(Debug)]
struct Entry {
    known: Known<Override>,
    /// How far the store's clock was set ahead since it was read first, ms.
    ahead_ms: i64,
}

/// What is known of them.
#[derive(Debug, Default)]
pub struct OverrideSet {
    entries: BTreeMap<String, Entry>,
    /// They cannot be read as a whole.
    error: Option<ConfigErrors>,
}

impl OverrideSet {
    /// Takes over a reading; whether it is news.
    pub fn update(&mut self, read: Entries) -> bool {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                let news = self.error.as_ref() != Some(&error);
                self.error = Some(error);
                // What cannot be read takes back nothing that was set.
                self.entries.retain(|_, Entry { known, .. }| {
                    known.error = None;
                    known.good.is_some()
                });
                return news;
            }
        };
        let mut news = self.error.take().is_some();
        let mut before = std::mem::take(&mut self.entries);
        for (id, entry) in read {
            let old = before.remove(&id);
            let ahead_ms = old.as_ref().map_or(0, |old| old.ahead_ms);
            let (known, new) = Known::update(old.map(|old| old.known), entry);
            let ahead_ms = if new { 0 } else { ahead_ms };
            news |= new;
            self.entries.insert(id, Entry { known, ahead_ms });
        }
        news || !before.is_empty()
    }

    /// Adds those of this cluster.
    pub fn read(&self, cluster: &str, into: &mut Overrides) {
        for (id, Entry { known, ahead_ms }) in &self.entries {
            if let Some(entry) = &known.good {
                into.put(cluster, id, entry.clone().later_by(*ahead_ms));
            }
        }
    }

    /// The store's clock was set ahead by so many ms.
    pub fn step(&mut self, by_ms: i64) {
        for entry in self.entries.values_mut() {
            entry.ahead_ms = entry.ahead_ms.saturating_add(by_ms);
        }
    }

    /// The store's clock is right as it is.
    pub fn trust_clock(&mut self) {
        for entry in self.entries.values_mut() {
            entry.ahead_ms = 0;
        }
    }

    /// Everything that is wrong with them, each with its place.
    pub fn errors(&self, cluster: &str) -> impl Iterator<Item = (String, ConfigErrors)> {
        let whole = self.error.iter();
        let whole = whole.map(move |error| (format!("overrides.{cluster}"), error.clone()));
        let each = self
            .entries
            .iter()
            .filter_map(move |(id, Entry { known, .. })| {
                let error = known.error.clone()?;
                Some((format!("overrides.{cluster}[{id}]"), error))
            });
        whole.chain(each)
    }
}
