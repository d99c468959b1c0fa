//! Operators' overrides of backends' states: the one form they have in every store, and how they are obeyed.
//!
//! An override beats the document, what a backend says of itself and every automatism. It is kept apart
//! from the documents, so that writing these again leaves it in force, and so does a restart. It
//! may be about a backend that is not there, and holds once that one comes.

use std::collections::BTreeMap;

use pointsman_filter::config::{ClusterConfig, ConfigErrors, State};
use serde_json::{Map, Value, json};

use super::errors::error;

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
    /// Until when, ms since 1970 by the store's clock; absent: until it is taken back.
    pub expires_at: Option<u64>,
}

impl Override {
    /// Reads an override as it stands in a store: the state alone, or JSON with reason, actor, expiry.
    pub fn parse(place: &str, text: &[u8]) -> Result<Self, ConfigErrors> {
        let text = std::str::from_utf8(text).map_err(|_| error(place, "must be UTF-8"))?;
        let text = text.trim();
        let value: Value = match text.starts_with('{') {
            true => serde_json::from_str(text)
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
        let known = ["state", "reason", "actor", "expiresAt"];
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
        let expires_at = match object.get("expiresAt") {
            None => None,
            Some(at) => {
                let why = || error(&format!("{place}.expiresAt"), "must be a time in ms");
                Some(at.as_u64().ok_or_else(why)?)
            }
        };
        Ok(Override {
            state,
            reason: text("reason")?,
            actor: text("actor")?,
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
        if let Some(at) = self.expires_at {
            map.insert("expiresAt".to_owned(), at.into());
        }
        Value::Object(map)
    }

    /// Whether it has not ended.
    pub fn holds(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// The overrides of all backends, by cluster and id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides(BTreeMap<String, BTreeMap<String, Override>>);

impl Overrides {
    /// Reads `{cluster: {backend: override}}`; everything that is wrong with it at once.
    pub fn read(value: &Value) -> Result<Self, ConfigErrors> {
        let place = "overrides";
        let must = "must be an object of clusters";
        let clusters = value.as_object().ok_or_else(|| error(place, must))?;
        let (mut read, mut errors) = (Overrides::default(), Vec::new());
        for (cluster, overrides) in clusters {
            let place = format!("{place}.{cluster}");
            let Some(overrides) = overrides.as_object() else {
                errors.extend(error(&place, "must be an object of backends").0);
                continue;
            };
            for (backend, entry) in overrides {
                match Override::read(&format!("{place}[{backend}]"), entry) {
                    Ok(entry) => drop(read.put(cluster, backend, entry)),
                    Err(wrong) => errors.extend(wrong.0),
                }
            }
        }
        match errors.is_empty() {
            true => Ok(read),
            false => Err(ConfigErrors(errors)),
        }
    }

    /// What [`Overrides::read`] reads.
    pub fn to_value(&self) -> Value {
        let overrides = |overrides: &BTreeMap<String, Override>| -> Value {
            let overrides = overrides.iter();
            overrides
                .map(|(id, entry)| (id.clone(), entry.to_value()))
                .collect()
        };
        let clusters = self.0.iter();
        clusters
            .map(|(name, it)| (name.clone(), overrides(it)))
            .collect()
    }

    /// Sets the override of a backend; gives back the one before.
    pub fn put(&mut self, cluster: &str, backend: &str, entry: Override) -> Option<Override> {
        let overrides = self.0.entry(cluster.to_owned()).or_default();
        overrides.insert(backend.to_owned(), entry)
    }

    /// Takes the override of a backend back.
    pub fn remove(&mut self, cluster: &str, backend: &str) -> Option<Override> {
        let overrides = self.0.get_mut(cluster)?;
        let entry = overrides.remove(backend);
        if overrides.is_empty() {
            self.0.remove(cluster);
        }
        entry
    }

    /// The override of a backend.
    pub fn get(&self, cluster: &str, backend: &str) -> Option<&Override> {
        self.0.get(cluster)?.get(backend)
    }

    /// All of them: cluster, backend, override.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Override)> {
        self.0.iter().flat_map(|(cluster, overrides)| {
            let overrides = overrides.iter();
            overrides.map(move |(backend, entry)| (cluster.as_str(), backend.as_str(), entry))
        })
    }

    /// Forgets the overrides that have ended; when the next one does, ms of the store's clock.
    pub fn expire(&mut self, now: u64) -> Option<u64> {
        self.0.retain(|_, overrides| {
            overrides.retain(|_, entry| entry.holds(now));
            !overrides.is_empty()
        });
        self.iter()
            .filter_map(|(_, _, entry)| entry.expires_at)
            .min()
    }

    /// Gives the backends the states that were said.
    pub fn obey(&self, clusters: &mut [ClusterConfig]) {
        for cluster in clusters {
            let Some(overrides) = self.0.get(&cluster.name) else {
                continue;
            };
            for backend in &mut cluster.backends {
                if let Some(entry) = overrides.get(&backend.id) {
                    backend.state = entry.state;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
