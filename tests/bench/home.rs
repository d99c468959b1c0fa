//! Where the registry of a stage is kept, and how an edit of it is written.

use anyhow::Result;
use harness::registry::Registry;
use harness::{Kubernetes, Redis, Sidecar};
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
    /// Kubernetes.
    Kubernetes {
        /// The API server.
        kubernetes: Box<Kubernetes>,
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

    /// An API server with this document; `None`: there is none.
    pub async fn kubernetes(document: Value) -> Result<Option<Self>> {
        let Some(kubernetes) = Kubernetes::start("bench").await? else {
            return Ok(None);
        };
        kubernetes.put(&document).await?;
        Ok(Some(Home::Kubernetes {
            kubernetes: Box::new(kubernetes),
            document,
        }))
    }

    /// A sidecar on it, with these settings beside those of the store.
    pub async fn sidecar(&self, settings: &[(&str, &str)]) -> Result<Sidecar> {
        let mut store = match self {
            Home::File(registry) => return Sidecar::start_with(registry, settings).await,
            Home::Redis { redis, .. } => redis.settings().into(),
            Home::Kubernetes { kubernetes, .. } => kubernetes.settings(),
        };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        store.extend(settings.iter().map(owned));
        Sidecar::start_on_store(store).await
    }

    /// Changes the document and writes it.
    pub async fn edit(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        match self {
            Home::File(registry) => registry.edit(CLUSTER, change),
            Home::Redis { redis, document } => {
                change(document);
                redis.put(document).await
            }
            Home::Kubernetes {
                kubernetes,
                document,
            } => {
                change(document);
                kubernetes.put(document).await
            }
        }
    }
}
