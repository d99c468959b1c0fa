//! Where a registry is kept, and how its documents are written there.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use harness::{Kubernetes, Redis, Registry, Sidecar};
use serde_json::Value;

/// A store, or the file that stands for one.
pub trait Home {
    /// Writes these documents, and deletes what it had beside them.
    async fn hold(&mut self, documents: &[Value]) -> Result<()>;
    /// A sidecar on it.
    async fn sidecar(&self) -> Result<Sidecar>;
}

/// The file of demo mode.
pub struct Demo(Registry);

impl Demo {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Demo(Registry::new(Vec::new())?))
    }
}

impl Home for Demo {
    async fn hold(&mut self, documents: &[Value]) -> Result<()> {
        let container = serde_json::json!({"schema": 1, "clusters": documents});
        self.0.write_text(&container.to_string())
    }

    async fn sidecar(&self) -> Result<Sidecar> {
        Sidecar::start(&self.0).await
    }
}

/// A redis-server.
pub struct InRedis {
    redis: Redis,
    held: BTreeSet<String>,
}

impl InRedis {
    /// An empty one.
    pub async fn new() -> Result<Self> {
        Ok(InRedis {
            redis: Redis::start().await?,
            held: BTreeSet::new(),
        })
    }
}

impl Home for InRedis {
    async fn hold(&mut self, documents: &[Value]) -> Result<()> {
        for document in documents {
            self.redis.put(document).await?;
        }
        let names = names(documents)?;
        for gone in self.held.difference(&names) {
            let key = format!("pointsman:cluster:{gone}");
            self.redis.ask(&["DEL", &key]).await?;
        }
        self.held = names;
        Ok(())
    }

    async fn sidecar(&self) -> Result<Sidecar> {
        Sidecar::start_on_store(self.redis.settings()).await
    }
}

/// An API server.
pub struct InKubernetes {
    kubernetes: Kubernetes,
    held: BTreeSet<String>,
}

impl InKubernetes {
    /// An empty one; `None`, and the story skipped, where there is none.
    pub async fn new(story: &str) -> Result<Option<Self>> {
        let started = Kubernetes::start(story).await?;
        Ok(started.map(|kubernetes| InKubernetes {
            kubernetes,
            held: BTreeSet::new(),
        }))
    }
}

impl Home for InKubernetes {
    async fn hold(&mut self, documents: &[Value]) -> Result<()> {
        for document in documents {
            self.kubernetes.put(document).await?;
        }
        let names = names(documents)?;
        for gone in self.held.difference(&names) {
            let kind = self.kubernetes.clusters();
            self.kubernetes.delete(&kind, gone).await?;
        }
        self.held = names;
        Ok(())
    }

    async fn sidecar(&self) -> Result<Sidecar> {
        Sidecar::start_on_store(self.kubernetes.settings()).await
    }
}

fn names(documents: &[Value]) -> Result<BTreeSet<String>> {
    let name = |it: &Value| it["name"].as_str().map(str::to_owned);
    let names: Option<BTreeSet<String>> = documents.iter().map(name).collect();
    names.context("a document without a name")
}
