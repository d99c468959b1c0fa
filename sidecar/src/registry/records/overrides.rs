//! The overrides on one cluster's backends, each in its last good version.

use std::collections::BTreeMap;

use pointsman_filter::config::ConfigErrors;

use super::known::Known;
use crate::model::overrides::{Override, Overrides};
use crate::registry::record::Entries;

/// What is known of them.
#[derive(Debug, Default)]
pub struct OverrideSet {
    entries: BTreeMap<String, Known<Override>>,
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
                self.entries.retain(|_, known| {
                    known.error = None;
                    known.good.is_some()
                });
                return news;
            }
        };
        let mut news = self.error.take().is_some();
        let mut before = std::mem::take(&mut self.entries);
        for (id, entry) in read {
            let (known, new) = Known::update(before.remove(&id), entry);
            news |= new;
            self.entries.insert(id, known);
        }
        news || !before.is_empty()
    }

    /// Adds those of this cluster.
    pub fn read(&self, cluster: &str, into: &mut Overrides) {
        for (id, known) in &self.entries {
            if let Some(entry) = &known.good {
                into.put(cluster, id, entry.clone());
            }
        }
    }

    /// Everything that is wrong with them, each with its place.
    pub fn errors(&self, cluster: &str) -> impl Iterator<Item = (String, ConfigErrors)> {
        let whole = self.error.iter();
        let whole = whole.map(move |error| (format!("overrides.{cluster}"), error.clone()));
        let each = self.entries.iter().filter_map(move |(id, known)| {
            let error = known.error.clone()?;
            Some((format!("overrides.{cluster}[{id}]"), error))
        });
        whole.chain(each)
    }
}
