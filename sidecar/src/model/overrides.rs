//! Operators' overrides of backends' states: the one form they have in every store, and how they are obeyed.
//!
//! An override beats the document, what a backend says of itself and every automatism. It is kept apart
//! from the documents, so that writing these again leaves it in force, and so does a restart. It
//! may be about a backend that is not there, and holds once that one comes.

mod plan;

use std::collections::BTreeMap;

use pointsman_filter::config::{ClusterConfig, ConfigErrors, State};
use serde_json::{Map, Value, json};

use super::clock::is_plausible;
use super::errors::error;
use super::json;
pub use plan::{Edit, Edited, Held, NEXT, edit, edit_values};
use plan::{is_next, settle};

/// Longest reason and longest actor, bytes.
pub const TEXT_MAX: usize = 256;

/// An override on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Cordoned or draining.
    pub state: State,
    /// Why; may be empty.
    pub reason: String,
    /// Who said so; may be empty.
    pub actor: String,
    /// From when, ms since 1970 by the store's clock; absent: since it was set.
    pub starts_at: Option<u64>,
    /// Until when, ms since 1970 by the store's clock; absent: until it is taken back.
    pub expires_at: Option<u64>,
}

impl Override {
    /// Reads an override as it stands in a store: the state alone, or JSON with reason, actor, start, expiry.
    pub fn parse(place: &str, text: &[u8]) -> Result<Self, ConfigErrors> {
        let text = std::str::from_utf8(text).map_err(|_| error(place, "must be UTF-8"))?;
        let text = text.trim();
        let value: Value = match text.starts_with('{') {
            true => json::read(text.as_bytes())
                .map_err(|why| error(place, format!("must be JSON: {why}")))?,
            false => text.into(),
        };
        Self::read(place, &value)
    }

    /// Reads an override from a document: a state, or an object.
    pub fn read(place: &str, value: &Value) -> Result<Self, ConfigErrors> {
        let alone = json!({"state": value});
        let object = value.as_object().or_else(|| alone.as_object());
        let object = object.ok_or_else(|| error(place, "must be a state or an object"))?;
        let text = |field: &str| -> Result<String, ConfigErrors> {
            match object.get(field) {
                None => Ok(String::new()),
                Some(Value::String(text)) if text.len() <= TEXT_MAX => Ok(text.clone()),
                Some(_) => {
                    let why = format!("must be a text of at most {TEXT_MAX} bytes");
                    Err(error(&format!("{place}.{field}"), why))
                }
            }
        };
        let known = ["state", "reason", "actor", "startsAt", "expiresAt"];
        if let Some(odd) = object.keys().find(|field| !known.contains(&field.as_str())) {
            return Err(error(&format!("{place}.{odd}"), "is not a known field"));
        }
        let state = match object.get("state").and_then(Value::as_str) {
            Some("Cordoned") => State::Cordoned,
            Some("Draining") => State::Draining,
            _ => {
                let why = "must be Cordoned or Draining";
                return Err(error(&format!("{place}.state"), why));
            }
        };
        let moment = |field: &str| match object.get(field) {
            None => Ok(None),
            Some(at) => {
                let must = "must be a time in ms since 1970";
                let why = || error(&format!("{place}.{field}"), must);
                let at = at.as_u64().filter(|at| is_plausible(*at));
                at.map(Some).ok_or_else(why)
            }
        };
        let (starts_at, expires_at) = (moment("startsAt")?, moment("expiresAt")?);
        Ok(Override {
            state,
            reason: text("reason")?,
            actor: text("actor")?,
            starts_at,
            expires_at,
        })
    }

    /// The override as it is written to a store.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("state".to_owned(), self.state.name().into());
        for (field, text) in [("reason", &self.reason), ("actor", &self.actor)] {
            if !text.is_empty() {
                map.insert(field.to_owned(), text.as_str().into());
            }
        }
        for (field, at) in [("startsAt", self.starts_at), ("expiresAt", self.expires_at)] {
            if let Some(at) = at {
                map.insert(field.to_owned(), at.into());
            }
        }
        Value::Object(map)
    }

    /// The same, but so many ms later; negative: earlier.
    #[must_use]
    pub fn later_by(mut self, ms: i64) -> Self {
        for at in [&mut self.starts_at, &mut self.expires_at] {
            *at = at.map(|at| at.saturating_add_signed(ms));
        }
        self
    }

    /// Whether it has not ended.
    pub fn holds(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// Reads the overrides on a cluster's backends, `{backend: override}`, each for itself.
pub fn read_each(
    cluster: &str,
    overrides: &Map<String, Value>,
) -> BTreeMap<String, Result<Override, ConfigErrors>> {
    let entry = |(id, value): (&String, &Value)| {
        let read = Override::read(&format!("overrides.{cluster}[{id}]"), value);
        (id.clone(), read)
    };
    overrides.iter().map(entry).collect()
}

/// The overrides of all backends, by cluster and id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides(BTreeMap<String, BTreeMap<String, Override>>);

impl Overrides {
    /// Puts an override under a field of a cluster; gives back the one before.
    pub fn put(&mut self, cluster: &str, field: &str, entry: Override) -> Option<Override> {
        let overrides = self.0.entry(cluster.to_owned()).or_default();
        overrides.insert(field.to_owned(), entry)
    }

    /// The override of a backend that is in force.
    pub fn get(&self, cluster: &str, backend: &str) -> Option<&Override> {
        let entry = self.0.get(cluster)?.get(backend);
        entry.filter(|entry| !is_next(backend, entry))
    }

    /// The one that is to follow.
    pub fn next(&self, cluster: &str, backend: &str) -> Option<&Override> {
        let field = format!("{backend}{NEXT}");
        let entry = self.0.get(cluster)?.get(&field);
        entry.filter(|entry| is_next(&field, entry))
    }

    /// All of them, each under its field: cluster, field, override.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str, &Override)> {
        self.0.iter().flat_map(|(cluster, overrides)| {
            let overrides = overrides.iter();
            overrides.map(move |(field, entry)| (cluster.as_str(), field.as_str(), entry))
        })
    }

    /// Those in force: cluster, backend, override.
    pub fn in_force(&self) -> impl Iterator<Item = (&str, &str, &Override)> {
        self.fields()
            .filter(|(_, field, entry)| !is_next(field, entry))
    }

    /// Those that are to follow: cluster, backend, override.
    pub fn planned(&self) -> impl Iterator<Item = (&str, &str, &Override)> {
        let planned = self
            .fields()
            .filter(|(_, field, entry)| is_next(field, entry));
        planned.map(|(cluster, field, entry)| {
            (cluster, field.strip_suffix(NEXT).unwrap_or(field), entry)
        })
    }

    /// Lets begin and end what has its time at `now`; when the next one has, ms of the store's clock.
    pub fn settle(&mut self, now: u64) -> Option<u64> {
        self.0.retain(|_, held| {
            settle(held, now);
            !held.is_empty()
        });
        let ends = self.in_force().filter_map(|(_, _, entry)| entry.expires_at);
        let starts = self.planned().filter_map(|(_, _, entry)| entry.starts_at);
        ends.chain(starts).min()
    }

    /// Gives the backends the states that were said.
    pub fn obey(&self, clusters: &mut [ClusterConfig]) {
        for cluster in clusters {
            let Some(overrides) = self.0.get(&cluster.name) else {
                continue;
            };
            for backend in &mut cluster.backends {
                let entry = overrides.get(&backend.id);
                if let Some(entry) = entry.filter(|entry| !is_next(&backend.id, entry)) {
                    backend.state = entry.state;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
