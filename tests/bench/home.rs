//! Where the registry of a stage is kept, and how an edit of it is written.

use anyhow::Result;
use harness::registry::Registry;
use harness::{Redis, Sidecar};
use serde_json::Value;

use crate::contender::CLUSTER;

/// A store with one cluster's document.
pub enum Home {
    /// The demo file.
    File(Registry),
    /// Redis.
    Redis {
        /// The server.
        redis: Redis,
        /// The document as it stands there.
        document: Value,
    },
}

impl Home {
    /// A file with this document.
    pub fn file(document: Value) -> Result<Self> {
        Ok(Home::File(Registry::new(vec![document])?))
    }

    /// A redis-server with this document.
    pub async fn redis(document: Value) -> Result<Self> {
        let redis = Redis::start().await?;
        redis.put(&document).await?;
        Ok(Home::Redis { redis, document })
    }

    /// A sidecar on it.
    pub async fn sidecar(&self) -> Result<Sidecar> {
        match self {
            Home::File(registry) => Sidecar::start(registry).await,
            Home::Redis { redis, .. } => Sidecar::start_on_store(redis.settings()).await,
        }
    }

    /// Changes the document and writes it.
    pub async fn edit(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        match self {
            Home::File(registry) => registry.edit(CLUSTER, change),
            Home::Redis { redis, document } => {
                change(document);
                redis.put(document).await
            }
        }
    }
}
