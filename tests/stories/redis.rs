//! The registry in Redis: a real redis-server, a real Envoy, changes as redis-cli would make them.

mod access;
mod changes;
mod clocks;
mod cluster;
mod counters;
mod growth;
mod odd;
mod readme;
mod scale;
mod sentinel;
mod several;
mod start;
mod unsaid;
mod unwritable;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::redis::Reply;
use harness::{
    Bootstrap, Client, Envoy, Redis, SOON, Scene, Sidecar, Upstream, eventually, registry,
};
use serde_json::{Value, json};

use crate::scene::only;

/// A store with the cluster `orders`, and what serves it.
type Story = Scene<Redis>;

/// Starts everything on this store, over these backends.
async fn serve(redis: Redis, backends: &[&Upstream], settings: &[(&str, &str)]) -> Result<Story> {
    let document = registry::cluster("orders", backends, json!({}));
    let story = Scene::on(redis, &[document], settings).await?;
    let ids: Vec<&str> = backends.iter().map(|it| it.id()).collect();
    served_by(&mut story.envoy.client(), &ids).await?;
    Ok(story)
}

/// Waits until a request is answered by one of these backends.
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
