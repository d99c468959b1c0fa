//! Operators change the registry through the sidecar, whatever store keeps it, with a real Envoy where
//! traffic must be seen.

mod cli;
mod doctor;
mod documents;
mod jobs;
mod reload;
mod secrets;
mod waits;
mod words;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::client::Response;
use harness::{
    Bootstrap, Client, Envoy, Home, Kind, SOON, Scene, Sidecar, Store, Upstream, eventually,
    registry,
};
use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::scene::answered_by;

/// The cluster `orders` over some backends, what serves it, and an Envoy with two workers.
async fn start(kind: Kind, backends: &[&Upstream]) -> Result<Scene<Store>> {
    let document = registry::cluster("orders", backends, json!({}));
    Scene::on(kind.start().await?, &[document], &[]).await
}

/// A sidecar on a store with one document.
async fn start_sidecar(
    kind: Kind,
    document: &Value,
    settings: &[(&str, &str)],
) -> Result<(Sidecar, Store)> {
    let mut store = kind.start().await?;
    store.keep(document).await?;
    Ok((Sidecar::start_with(&store, settings).await?, store))
}

fn etag(response: &Response) -> Result<String> {
    Ok(response.header("etag").context("no ETag")?.to_owned())
}
