//! Operators change the registry through the sidecar: in a file and in Redis, with a real Envoy
//! where traffic must be seen.

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
    Bootstrap, Client, Envoy, Redis, Registry, SOON, Sidecar, Upstream, eventually, registry,
};
use hyper::Method;
use serde_json::{Value, json};

/// Where the registry is kept.
#[derive(Debug, Clone, Copy)]
enum Home {
    File,
    Redis,
}

const HOMES: [Home; 2] = [Home::File, Home::Redis];

/// What must outlive the sidecar.
enum Store {
    File(Registry),
    Redis(Redis),
}

/// The cluster `orders` over some backends, what serves it, and an Envoy with two workers.
struct Story {
    // In the order of their ends.
    envoy: Envoy,
    sidecar: Sidecar,
    store: Store,
}

impl Story {
    async fn start(home: Home, backends: &[&Upstream]) -> Result<Self> {
        Self::start_with(home, backends, &[]).await
    }

    /// The same with settings of the sidecar.
    async fn start_with(
        home: Home,
        backends: &[&Upstream],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let document = registry::cluster("orders", backends, json!({}));
        let (sidecar, store) = start_sidecar(home, document, settings).await?;
        let bootstrap = Bootstrap::ads(sidecar.xds_address())?.concurrency(2);
        Ok(Story {
            envoy: Envoy::start(bootstrap.exact_balance()?).await?,
            sidecar,
            store,
        })
    }

    /// Writes; fails unless the answer is a good one and the write is served.
    async fn write(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let response = self.sidecar.ask(method, path, &[], &body).await?;
        let text = response.text();
        ensure!(
            response.status.is_success(),
            "{path}: {} {text}",
            response.status
        );
        let body = response.json()?;
        ensure!(body["served"] == true, "{path}: {text}");
        Ok(body)
    }

    /// Waits until every worker runs the revision of an answer.
    async fn everywhere(&self, answer: &Value) -> Result<()> {
        let revision = &answer["revision"];
        eventually(SOON, "every worker to have it", async || {
            let proxies = self.sidecar.get("/v1/proxies").await?.json()?;
            let proxy = &proxies["proxies"][0];
            ensure!(proxy["workers"] == 2, "{proxies}");
            ensure!(proxy["revisions"] == json!([revision]), "{proxies}");
            Ok(())
        })
        .await
    }

    /// A client of each worker, both served.
    async fn clients(&self) -> Result<Vec<Client>> {
        let mut clients = self.envoy.pinned_clients().await?;
        for client in &mut clients {
            eventually(SOON, "a first answer", async || {
                let response = client.get("/").await?;
                ensure!(response.status == 200, "{}", response.text());
                Ok(())
            })
            .await?;
        }
        Ok(clients)
    }
}

async fn start_sidecar(
    home: Home,
    document: Value,
    settings: &[(&str, &str)],
) -> Result<(Sidecar, Store)> {
    match home {
        Home::File => {
            let registry = Registry::new(vec![document])?;
            let sidecar = Sidecar::start_with(&registry, settings).await?;
            Ok((sidecar, Store::File(registry)))
        }
        Home::Redis => {
            let redis = Redis::start().await?;
            redis.put(&document).await?;
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let settings = settings.iter().map(owned);
            let settings = redis.settings().into_iter().chain(settings);
            let sidecar = Sidecar::start_on_store(settings).await?;
            Ok((sidecar, Store::Redis(redis)))
        }
    }
}

/// The backends that answer `count` requests of each client; all must succeed.
async fn answered_by(clients: &mut [Client], count: usize) -> Result<Vec<String>> {
    let mut backends = Vec::new();
    for client in clients {
        for _ in 0..count {
            let response = client.get("/").await?;
            let backend = response.backend().filter(|_| response.status == 200);
            let why = || format!("{} {}", response.status, response.text());
            backends.push(backend.with_context(why)?.to_owned());
        }
    }
    Ok(backends)
}

fn etag(response: &Response) -> Result<String> {
    Ok(response.header("etag").context("no ETag")?.to_owned())
}
