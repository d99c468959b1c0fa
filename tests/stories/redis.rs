//! The registry in Redis: a real redis-server, a real Envoy, changes as redis-cli would make them.

mod access;
mod changes;
mod clocks;
mod cluster;
mod counters;
mod growth;
mod guard;
mod odd;
mod outage;
mod readme;
mod scale;
mod sentinel;
mod several;
mod start;
mod unwritable;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::redis::Reply;
use harness::{Bootstrap, Client, Envoy, Redis, SOON, Sidecar, Upstream, eventually, registry};
use serde_json::{Value, json};

use crate::scene::only;

/// A store with the cluster `orders`, and what serves it.
struct Story {
    // In the order of their ends.
    envoy: Envoy,
    sidecar: Sidecar,
    redis: Redis,
}

impl Story {
    /// Starts everything on this store, over these backends.
    async fn start(
        redis: Redis,
        backends: &[&Upstream],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        redis
            .put(&registry::cluster("orders", backends, json!({})))
            .await?;
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = redis
            .settings()
            .into_iter()
            .chain(settings.iter().map(owned));
        let sidecar = Sidecar::start_on_store(settings).await?;
        let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
        let story = Story {
            envoy,
            sidecar,
            redis,
        };
        let ids: Vec<&str> = backends.iter().map(|it| it.id()).collect();
        story.served_by_one_of(&ids).await?;
        Ok(story)
    }

    /// Waits until a request is answered by one of these backends.
    async fn served_by_one_of(&self, ids: &[&str]) -> Result<()> {
        served_by(&mut self.envoy.client(), ids).await
    }

    /// Waits for a field of what the sidecar wrote about a cluster.
    async fn status_field(&self, cluster: &str, field: &str, part: &str) -> Result<()> {
        self.status_field_at(&self.redis, cluster, field, part)
            .await
    }

    /// The same in another server.
    async fn status_field_at(
        &self,
        redis: &Redis,
        cluster: &str,
        field: &str,
        part: &str,
    ) -> Result<()> {
        let key = format!("pointsman:status:{cluster}");
        eventually(SOON, &format!("{key} to say {part:?}"), async || {
            let status = redis.ask(&["HGETALL", &key]).await?;
            let value = status.field(field).with_context(|| format!("{status:?}"))?;
            ensure!(value.contains(part), "{value}");
            Ok(())
        })
        .await
    }

    /// Waits until the sidecar serves the cluster with these backends, and gives them.
    async fn backends(&self, cluster: &str, ids: &[&str]) -> Result<Vec<Value>> {
        eventually(SOON, &format!("{cluster} to have {ids:?}"), async || {
            let status = self.sidecar.status().await?;
            let all = status["clusters"].as_array().context("clusters")?;
            let found = all.iter().find(|it| it["name"] == cluster);
            let backends = found.context("no such cluster")?["backends"].as_array();
            let backends = backends.context("backends")?.clone();
            let seen: Vec<&str> = backends.iter().filter_map(|it| it["id"].as_str()).collect();
            ensure!(seen == ids, "{seen:?}");
            Ok(backends)
        })
        .await
    }

    /// How many clusters of the registry the sidecar serves.
    async fn clusters(&self) -> Result<usize> {
        let status = self.sidecar.status().await?;
        Ok(status["clusters"].as_array().context("clusters")?.len())
    }
}

async fn served_by(client: &mut Client, ids: &[&str]) -> Result<()> {
    eventually(SOON, &format!("an answer of {ids:?}"), async || {
        let response = client.get("/").await?;
        let by = response.backend().unwrap_or("nobody");
        ensure!(
            ids.contains(&by),
            "{} by {by}: {}",
            response.status,
            response.text()
        );
        Ok(())
    })
    .await
}

/// Registers a backend as it would do itself.
async fn register(redis: &Redis, upstream: &Upstream, more: &[&str]) -> Result<Reply> {
    let key = format!("pointsman:backend:orders:{}", upstream.id());
    let address = upstream.address().to_string();
    let command = [&["HSET", &key, "address", &address], more].concat();
    redis.ask(&command).await
}
