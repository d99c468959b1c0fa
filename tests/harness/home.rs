//! Where a registry is kept: a file, Redis or Kubernetes, alike for who writes documents.

use anyhow::{Context, Result, bail};
use hyper::Method;
use serde_json::Value;

use crate::kubernetes::Kubernetes;
use crate::redis::Redis;
use crate::registry::Registry;

/// A store of documents, or the file that stands for one.
#[allow(async_fn_in_trait, reason = "no story asks for more of the future")]
pub trait Home {
    /// Adds a document, or replaces the one of the same name.
    async fn keep(&mut self, document: &Value) -> Result<()>;
    /// Deletes a document.
    async fn discard(&mut self, cluster: &str) -> Result<()>;
    /// The settings of a sidecar on it.
    fn settings(&self) -> Vec<(String, String)>;
}

impl Home for Registry {
    async fn keep(&mut self, document: &Value) -> Result<()> {
        self.put(document.clone())
    }

    async fn discard(&mut self, cluster: &str) -> Result<()> {
        self.remove(cluster)
    }

    fn settings(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("DEMO_MODE", "true".to_owned()),
            pair("POINTSMAN_DEMO_FILE", self.file().display().to_string()),
        ]
    }
}

impl Home for Redis {
    async fn keep(&mut self, document: &Value) -> Result<()> {
        self.put(document).await
    }

    async fn discard(&mut self, cluster: &str) -> Result<()> {
        let key = format!("pointsman:cluster:{cluster}");
        self.ask(&["DEL", &key]).await.map(drop)
    }

    fn settings(&self) -> Vec<(String, String)> {
        Redis::settings(self).into()
    }
}

impl Home for Kubernetes {
    async fn keep(&mut self, document: &Value) -> Result<()> {
        self.put(document).await
    }

    async fn discard(&mut self, cluster: &str) -> Result<()> {
        self.delete(&self.clusters(), cluster).await
    }

    fn settings(&self) -> Vec<(String, String)> {
        Kubernetes::settings(self)
    }
}

/// The kinds of stores, for stories that are the same on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Demo mode.
    File,
    /// A redis-server.
    Redis,
    /// An API server.
    Kubernetes,
}

impl Kind {
    /// All that there are here; on the others the story is skipped.
    pub fn all(story: &str) -> Result<Vec<Kind>> {
        let kinds = [Kind::File, Kind::Redis].into_iter();
        let more = Kubernetes::is_there(story)?.then_some(Kind::Kubernetes);
        Ok(kinds.chain(more).collect())
    }

    /// The stores proper, of the story's own, which `must` do something to them.
    pub fn own(story: &str, must: &str) -> Result<Vec<Kind>> {
        let there = Kubernetes::is_ours(story, must)?;
        let more = there.then_some(Kind::Kubernetes);
        Ok([Kind::Redis].into_iter().chain(more).collect())
    }

    /// An empty store.
    pub async fn start(self) -> Result<Store> {
        Ok(match self {
            Kind::File => Store::File(Registry::new(Vec::new())?),
            Kind::Redis => Store::Redis(Redis::start().await?),
            Kind::Kubernetes => {
                let roles = ["pointsman", "pointsman-editor"];
                let kubernetes = Kubernetes::start_for("its own", &roles).await?;
                Store::Kubernetes(kubernetes.context("no API server")?)
            }
        })
    }
}

/// One of them, as a story holds it.
#[allow(clippy::large_enum_variant, reason = "a story has one")]
pub enum Store {
    /// The file of demo mode.
    File(Registry),
    /// A redis-server.
    Redis(Redis),
    /// An API server.
    Kubernetes(Kubernetes),
}

impl Store {
    /// All that stands in it, as text.
    pub async fn text(&self) -> Result<String> {
        Ok(match self {
            Store::File(registry) => std::fs::read_to_string(registry.file())?,
            Store::Redis(redis) => format!(
                "{:?}",
                redis.ask(&["GET", "pointsman:cluster:orders"]).await?
            ),
            Store::Kubernetes(kubernetes) => {
                let path = kubernetes.clusters();
                let all = kubernetes.ask(Method::GET, &path, None).await?;
                all.ok()?.to_string()
            }
        })
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not die"),
            Store::Redis(redis) => redis.kill(),
            Store::Kubernetes(kubernetes) => kubernetes.kill()?,
        }
        Ok(())
    }

    /// Hangs it: it keeps its connections and says nothing more.
    pub async fn hang(&self) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not hang"),
            Store::Redis(redis) => redis.hang().await,
            Store::Kubernetes(kubernetes) => kubernetes.hang().await,
        }
    }

    /// Ends a [`Store::hang`].
    pub fn resume(&self) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not hang"),
            Store::Redis(redis) => redis.resume(),
            Store::Kubernetes(kubernetes) => kubernetes.resume(),
        }
    }

    /// Starts it again, with what was written.
    pub async fn restart(&mut self) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not die"),
            Store::Redis(redis) => redis.restart().await,
            Store::Kubernetes(kubernetes) => kubernetes.restart().await,
        }
    }

    /// Somebody deletes everything.
    pub async fn clear(&mut self) -> Result<()> {
        match self {
            Store::File(registry) => registry.write_text(r#"{"schema": 1, "clusters": []}"#),
            Store::Redis(redis) => redis.ask(&["FLUSHDB"]).await.map(drop),
            Store::Kubernetes(kubernetes) => kubernetes.delete_all().await,
        }
    }

    /// The same while it is dead.
    pub async fn clear_elsewhere(&mut self) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not die"),
            Store::Redis(redis) => redis.forget(),
            Store::Kubernetes(kubernetes) => kubernetes.elsewhere().await?.delete_all().await,
        }
    }

    /// Somebody writes a document while it is dead.
    pub async fn keep_elsewhere(&mut self, document: &Value) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not die"),
            Store::Redis(redis) => {
                let name = document["name"].as_str().context("no name")?;
                let key = format!("pointsman:cluster:{name}");
                let text = document.to_string();
                let write = ["SET", key.as_str(), &text];
                redis.ask_elsewhere(&write).await.map(drop)
            }
            Store::Kubernetes(kubernetes) => kubernetes.elsewhere().await?.put(document).await,
        }
    }

    /// Somebody deletes one while it is dead.
    pub async fn discard_elsewhere(&mut self, cluster: &str) -> Result<()> {
        match self {
            Store::File(_) => bail!("a file does not die"),
            Store::Redis(redis) => {
                let key = format!("pointsman:cluster:{cluster}");
                redis.ask_elsewhere(&["DEL", &key]).await.map(drop)
            }
            Store::Kubernetes(kubernetes) => {
                let elsewhere = kubernetes.elsewhere().await?;
                elsewhere.delete(&elsewhere.clusters(), cluster).await
            }
        }
    }

    /// The Redis that it is.
    pub fn redis(&mut self) -> Result<&mut Redis> {
        match self {
            Store::Redis(redis) => Ok(redis),
            _ => None.context("the store is no Redis"),
        }
    }
}

impl Home for Store {
    async fn keep(&mut self, document: &Value) -> Result<()> {
        match self {
            Store::File(registry) => registry.keep(document).await,
            Store::Redis(redis) => redis.keep(document).await,
            Store::Kubernetes(kubernetes) => kubernetes.keep(document).await,
        }
    }

    async fn discard(&mut self, cluster: &str) -> Result<()> {
        match self {
            Store::File(registry) => registry.discard(cluster).await,
            Store::Redis(redis) => redis.discard(cluster).await,
            Store::Kubernetes(kubernetes) => kubernetes.discard(cluster).await,
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        match self {
            Store::File(registry) => Home::settings(registry),
            Store::Redis(redis) => Home::settings(redis),
            Store::Kubernetes(kubernetes) => Home::settings(kubernetes),
        }
    }
}
