//! Writes to Redis, over a connection of their own.

use std::sync::{Arc, Mutex, PoisonError};

use redis::RedisError;
use serde_json::Value;

use crate::model::overrides::Override;
use crate::registry::document::etag;
use crate::registry::edit::{CompareAndSwap, Seen, Swapped};
use crate::registry::edit::{Document, EditError};
use crate::settings::RedisSettings;
use crate::stores::redis::layout::Layout;
use crate::stores::redis::link::{Link, Raw};
use crate::stores::redis::node;

/// The way to change the registry in Redis. Clones share one connection.
#[derive(Clone)]
pub struct RedisEditor {
    settings: RedisSettings,
    layout: Layout,
    kept: Arc<Mutex<Option<Link>>>,
}

impl RedisEditor {
    /// An editor that connects when it is needed first.
    pub fn new(settings: RedisSettings, layout: Layout) -> Self {
        RedisEditor {
            settings,
            layout,
            kept: Arc::default(),
        }
    }

    /// Redis time, ms.
    pub async fn now(&self) -> Result<u64, EditError> {
        let mut connection = self.connection().await?;
        let now = connection.time().await;
        self.done(connection, now)
    }

    /// Sets the override of a backend, or takes it back; what has ended goes with it.
    pub async fn set_override(
        &self,
        cluster: &str,
        backend: &str,
        entry: Option<&Override>,
    ) -> Result<(), EditError> {
        let entry = entry.map(|entry| entry.to_value().to_string());
        let mut connection = self.connection().await?;
        let said = connection
            .set_override(cluster, backend, entry.as_deref())
            .await;
        self.done(connection, said)
    }

    /// A connection that answers: the kept one, or a new one.
    async fn connection(&self) -> Result<Link, EditError> {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut kept) = kept
            && kept.ping().await.is_ok()
        {
            return Ok(kept);
        }
        let opened = Link::open(&self.settings, &self.layout).await;
        opened.map_err(|error| self.unreachable(&error))
    }

    /// Keeps the connection, unless it failed.
    fn done<T>(&self, connection: Link, outcome: Result<T, RedisError>) -> Result<T, EditError> {
        let refused = outcome.as_ref().err().is_some_and(node::is_refusal);
        let answered = refused || outcome.is_ok();
        if answered {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        outcome.map_err(|error| match refused {
            true => EditError::Refused(self.why(&error)),
            false => self.unreachable(&error),
        })
    }

    fn unreachable(&self, error: &RedisError) -> EditError {
        EditError::Unreachable(self.why(error))
    }

    fn why(&self, error: &RedisError) -> String {
        let why = self.settings.url.redact(&error.to_string());
        format!("Redis at {}: {why}", self.settings.url)
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
