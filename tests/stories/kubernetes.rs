//! The registry in Kubernetes: a real API server, a real Envoy, changes as kubectl would make them.
//!
//! The sidecar has the rights of `envoy/kubernetes/rbac.yaml`; a story that needs more fails.

mod changes;
mod delivery;
mod edits;
mod expired;
mod finalizers;
mod guard;
mod outage;
mod readme;
mod schema;
mod several;
mod slow;
mod start;
mod statuses;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Bootstrap, Envoy, Kubernetes, SOON, Sidecar, Upstream, eventually, registry, report,
};
use serde_json::{Value, json};

use crate::scene::only;

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
        Self::on(Kubernetes::start(story).await?, backends, settings).await
    }

    /// The same on an API server that the story stops and starts.
    async fn start_own(
        story: &str,
        backends: &[&Upstream],
        settings: &[(&str, &str)],
    ) -> Result<Option<Self>> {
        let kubernetes = Kubernetes::start_own(story, "stop the API server").await?;
        Self::on(kubernetes, backends, settings).await
    }

    /// The same on this one.
    async fn on(
        kubernetes: Option<Kubernetes>,
        backends: &[&Upstream],
        settings: &[(&str, &str)],
    ) -> Result<Option<Self>> {
        let Some(kubernetes) = kubernetes else {
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
            for said in [found, &object["status"]] {
                ensure!(
                    said["observedGeneration"] == *observed,
                    "of an older generation: {said}"
                );
            }
            Ok(found.clone())
        },
    )
    .await
}

/// Whether endpoints may be of this machine; the story is skipped where not.
async fn takes_endpoints(kubernetes: &Kubernetes, story: &str) -> Result<bool> {
    let takes = kubernetes.takes_local_endpoints().await?;
    if !takes {
        let reason = "the API server takes no endpoint that is 127.0.0.1";
        report::skipped(report::KUBERNETES, story, reason)?;
    }
    Ok(takes)
}

/// Applies an EndpointSlice of this Service for one pod: each pod has a port of its own here.
async fn put_slice(
    kubernetes: &Kubernetes,
    service: &str,
    pod: &Upstream,
    conditions: &Value,
) -> Result<()> {
    let target = json!({"kind": "Pod", "name": pod.id()});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": pod.id(), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": pod.address().port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": [pod.address().ip().to_string()],
            "conditions": conditions, "targetRef": target}],
    });
    kubernetes
        .apply_object(&kubernetes.slices(), &slice)
        .await?
        .ok()?;
    Ok(())
}
