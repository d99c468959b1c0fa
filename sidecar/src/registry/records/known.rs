//! What is known of one record, and how records make a cluster.

use std::collections::BTreeSet;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ConfigErrors};

/// Longest error that is written to a store, bytes.
const ERROR_MAX: usize = 2048;

/// What is known of one record: its last good version and what is wrong with the present one.
#[derive(Debug, Clone)]
pub struct Known<T> {
    /// The last version that was true to the schema.
    pub good: Option<T>,
    /// What is wrong with the present one.
    pub error: Option<ConfigErrors>,
}

impl<T: PartialEq> Known<T> {
    /// What is known after a reading, and whether that is news.
    pub fn update(before: Option<Known<T>>, read: Result<T, ConfigErrors>) -> (Self, bool) {
        let (good, error) = match read {
            Ok(good) => (Some(good), None),
            Err(error) => (None, Some(error)),
        };
        let Some(before) = before else {
            return (Known { good, error }, true);
        };
        let news = match &good {
            Some(_) => before.error.is_some() || before.good != good,
            None => before.error != error,
        };
        let good = good.or(before.good);
        (Known { good, error }, news)
    }
}

/// Adds the backends whose id is free; how many that were, and how many found no room.
pub fn merge(cluster: &mut ClusterConfig, more: Vec<&BackendConfig>) -> (usize, usize) {
    let taken: BTreeSet<String> = cluster.backends.iter().map(|it| it.id.clone()).collect();
    let free: Vec<&BackendConfig> = more
        .into_iter()
        .filter(|it| !taken.contains(&it.id))
        .collect();
    let room = cluster
        .backends_max()
        .saturating_sub(cluster.backends.len())
        .min(free.len());
    cluster
        .backends
        .extend(free.iter().take(room).copied().cloned());
    (room, free.len() - room)
}

/// Errors as one text of bounded length.
pub fn joined<'a>(errors: impl IntoIterator<Item = &'a ConfigErrors>) -> String {
    joined_texts(errors.into_iter().map(ToString::to_string)).unwrap_or_default()
}

/// Texts as one of bounded length; `None`: there are none.
pub fn joined_texts(texts: impl IntoIterator<Item = String>) -> Option<String> {
    let mut text = String::new();
    for one in texts {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&one);
        if text.len() > ERROR_MAX {
            text.truncate(text.floor_char_boundary(ERROR_MAX));
            text.push('…');
            break;
        }
    }
    (!text.is_empty()).then_some(text)
}
