//! The registry in Kubernetes: a real API server, a real Envoy, changes as kubectl would make them.
//!
//! The sidecar has the rights of `envoy/kubernetes/rbac.yaml`; a story that needs more fails.

mod changes;
mod delivery;
mod edits;
mod guard;
mod outage;
mod readme;
mod schema;
mod several;
mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Bootstrap, Client, Envoy, Kubernetes, Sidecar, Upstream, eventually, kubernetes, registry,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// An API server with the cluster `orders`, and what serves it.
struct Story {
    // In the order of their ends.
    envoy: Envoy,
    sidecar: Sidecar,
    kubernetes: Kubernetes,
}

impl Story {
    /// Starts everything over these backends; `None`: skipped.
    async fn start(
        story: &str,
        backends: &[&Upstream],
        settings: &[(&str, &str)],
    ) -> Result<Option<Self>> {
        let Some(kubernetes) = Kubernetes::start(story).await? else {
            return Ok(None);
        };
        kubernetes
            .put(&registry::cluster("orders", backends, json!({})))
            .await?;
        let sidecar = sidecar(&kubernetes, settings).await?;
        let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
        let story = Story {
            envoy,
            sidecar,
            kubernetes,
        };
        let ids: Vec<&str> = backends.iter().map(|it| it.id()).collect();
        only(&mut story.envoy.client(), &ids).await?;
        Ok(Some(story))
    }

    /// Waits until an object's condition is this, and gives it.
    async fn condition(&self, object: &str, kind: &str, reason: &str) -> Result<Value> {
        condition(&self.kubernetes, object, kind, reason).await
    }

    /// The names of the clusters that the sidecar serves.
    async fn clusters(&self) -> Result<Vec<String>> {
        let status = self.sidecar.status().await?;
        let clusters = status["clusters"].as_array().context("clusters")?.iter();
        let names = clusters.filter_map(|it| it["name"].as_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// Waits until it serves exactly these.
    async fn serves(&self, names: &[&str]) -> Result<()> {
        eventually(
            SOON,
            &format!("exactly {names:?} to be served"),
            async || {
                let seen = self.clusters().await?;
                ensure!(seen == names, "{seen:?}");
                Ok(())
            },
        )
        .await
    }

    /// Ends it in good order; the sidecar asked for nothing that the shipped rights do not grant.
    async fn end(self) -> Result<()> {
        self.envoy.stop().await?;
        self.sidecar.stop().await?;
        let refused = self.kubernetes.refused();
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }
}

/// A sidecar on this API server.
async fn sidecar(kubernetes: &Kubernetes, settings: &[(&str, &str)]) -> Result<Sidecar> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let settings = settings.iter().map(owned);
    Sidecar::start_on_store(kubernetes.settings().into_iter().chain(settings)).await
}

/// Waits until an object's condition has this reason, and gives the condition.
async fn condition(
    kubernetes: &Kubernetes,
    object: &str,
    kind: &str,
    reason: &str,
) -> Result<Value> {
    eventually(
        SOON,
        &format!("{object}: {kind} to be {reason}"),
        async || {
            let object = kubernetes.get(object).await?;
            let conditions = object["status"]["conditions"].as_array();
            let conditions = conditions.context("no conditions")?;
            let found = conditions.iter().find(|it| it["type"] == kind);
            let found = found.context("no such condition")?;
            ensure!(found["reason"] == reason, "{found}");
            let observed = &object["metadata"]["generation"];
            ensure!(
                found["observedGeneration"] == *observed,
                "of an older generation: {found}"
            );
            Ok(found.clone())
        },
    )
    .await
}

/// Waits until exactly these answer.
async fn only(client: &mut Client, ids: &[&str]) -> Result<()> {
    let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    eventually(SOON, &format!("exactly {ids:?} to answer"), async || {
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let response = client.get("/").await?;
            let (status, by) = (response.status, response.backend().unwrap_or("nobody"));
            ensure!(status == 200, "{status} by {by}: {}", response.text());
            seen.insert(by.to_owned());
        }
        ensure!(seen == ids, "{seen:?}");
        Ok(())
    })
    .await
}
