//! The one connection that a part of the sidecar asks its questions over.

use std::sync::{Arc, Mutex, PoisonError};

use redis::{Cmd, FromRedisValue, RedisError};

use super::layout::Layout;
use super::link::Link;
use super::node;
use crate::settings::RedisSettings;

/// Keeps a connection between two questions; clones share it.
#[derive(Clone)]
pub struct Keeper {
    settings: RedisSettings,
    layout: Layout,
    kept: Arc<Mutex<Option<Link>>>,
}

impl Keeper {
    /// Connects when it is needed first.
    pub fn new(settings: &RedisSettings) -> Self {
        Keeper {
            layout: Layout::new(&settings.root),
            settings: settings.clone(),
            kept: Arc::default(),
        }
    }

    /// What it was told of Redis.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// Its keys.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A connection that answers: the kept one, or a new one.
    pub async fn link(&self) -> Result<Link, RedisError> {
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
        Link::open(&self.settings, &self.layout).await
    }

    /// Keeps the connection that gave this answer, unless it failed: it may lead to a server that is
    /// the registry's no more.
    pub fn keep<T>(&self, link: Link, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        if answer.as_ref().err().is_none_or(node::is_refusal) {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        }
        answer
    }

    /// Asks one question.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut link = self.link().await?;
        let answer = link.query(command).await;
        self.keep(link, answer)
    }

    /// The text of an error, without secrets.
    pub fn why(&self, error: &RedisError) -> String {
        self.settings.url.redact(&error.to_string())
    }
}
