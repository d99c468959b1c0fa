//! Writes to Redis, over a connection of their own.

use std::collections::BTreeMap;

use redis::RedisError;
use serde_json::Value;

use crate::model::overrides::{Edit, Edited, Held, Override, edit};
use crate::registry::document::etag;
use crate::registry::edit::{ATTEMPTS_MAX, CompareAndSwap, Seen, Swapped};
use crate::registry::edit::{Document, EditError};
use crate::settings::RedisSettings;
use crate::stores::redis::keeper::Keeper;
use crate::stores::redis::link::{Fields, Link, Raw, Swap};
use crate::stores::redis::node;

/// The way to change the registry in Redis. Clones share one connection.
#[derive(Clone)]
pub struct RedisEditor(Keeper);

impl RedisEditor {
    /// An editor that connects when it is needed first.
    pub fn new(settings: &RedisSettings) -> Self {
        RedisEditor(Keeper::new(settings))
    }

    /// Redis time, ms.
    pub async fn now(&self) -> Result<u64, EditError> {
        let mut connection = self.connection().await?;
        let now = connection.time().await;
        self.done(connection, now)
    }

    /// Applies an operator's act on a backend; what has ended goes with it.
    pub async fn edit_override(
        &self,
        cluster: &str,
        backend: &str,
        act: &Edit,
    ) -> Result<Option<Override>, EditError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut connection = self.connection().await?;
            let read = connection.overrides(cluster).await;
            let (raw, now) = self.done(connection, read)?;
            let raw = readable(raw);
            let Edited { fields, entry } =
                edit(&held(&raw), backend, act, now).ok_or(EditError::NothingToEnd)?;
            let text = |entry: Option<Override>| entry.map(|it| it.to_value().to_string());
            let swaps = fields.into_iter().map(|(field, entry)| Swap {
                before: raw.get(&field).cloned().unwrap_or_default(),
                after: text(entry).unwrap_or_default(),
                field,
            });
            let swaps: Vec<Swap> = swaps.collect();
            let mut connection = self.connection().await?;
            let swapped = connection.swap_overrides(cluster, &swaps).await;
            if self.done(connection, swapped)? {
                return Ok(entry);
            }
        }
        Err(EditError::Busy)
    }

    async fn connection(&self) -> Result<Link, EditError> {
        self.0
            .link()
            .await
            .map_err(|error| self.unreachable(&error))
    }

    fn done<T>(&self, connection: Link, outcome: Result<T, RedisError>) -> Result<T, EditError> {
        let kept = self.0.keep(connection, outcome);
        kept.map_err(|error| {
            if node::is_trouble(&error) {
                EditError::Unwritable(self.why(&error))
            } else if node::is_refusal(&error) {
                EditError::Refused(self.why(&error))
            } else {
                self.unreachable(&error)
            }
        })
    }

    fn unreachable(&self, error: &RedisError) -> EditError {
        EditError::Unreachable(self.why(error))
    }

    fn why(&self, error: &RedisError) -> String {
        format!("Redis at {}: {}", self.0.settings().url, self.0.why(error))
    }
}

impl CompareAndSwap for RedisEditor {
    /// The text.
    type Mark = Vec<u8>;

    async fn look(&self, cluster: &str) -> Result<Seen<Vec<u8>>, EditError> {
        let mut connection = self.connection().await?;
        let read = connection.document(cluster).await;
        let document = document(cluster, self.done(connection, read)?)?;
        let mark = document.as_ref().map(|it| it.text.clone());
        Ok(Seen {
            document,
            mark: mark.unwrap_or_default(),
        })
    }

    async fn swap(
        &self,
        cluster: &str,
        mark: Vec<u8>,
        next: Option<&Value>,
    ) -> Result<Swapped, EditError> {
        let text = next.map(Value::to_string);
        let after = text.as_deref().unwrap_or_default().as_bytes();
        let mut connection = self.connection().await?;
        let swapped = connection.swap(cluster, &mark, after).await;
        Ok(match self.done(connection, swapped)? {
            true => Swapped::Done(text.map(|text| etag(text.as_bytes()))),
            false => Swapped::Overtaken,
        })
    }
}

fn document(cluster: &str, raw: Raw) -> Result<Option<Document>, EditError> {
    match raw {
        Raw::Missing => Ok(None),
        Raw::Text(text) => Ok(Some(Document::new(text))),
        Raw::Hash(_) | Raw::WrongType => Err(EditError::Refused(format!(
            "the key of cluster {cluster} holds no string: delete it in Redis first"
        ))),
    }
}

/// Those whose field can be a backend's id.
fn readable(raw: Fields) -> BTreeMap<String, Vec<u8>> {
    let fields = raw.into_iter();
    let named = fields.filter_map(|(id, text)| Some((String::from_utf8(id).ok()?, text)));
    named.collect()
}

/// Those of them that can be read: one that is wrong by itself is nobody else's business.
fn held(raw: &BTreeMap<String, Vec<u8>>) -> Held {
    let read = raw.iter();
    let read = read.filter_map(|(id, text)| Some((id.clone(), Override::parse(id, text).ok()?)));
    read.collect()
}
