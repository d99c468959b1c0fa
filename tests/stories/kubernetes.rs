//! The registry in Kubernetes: a real API server, a real Envoy, changes as kubectl would make them.
//!
//! The sidecar has the rights of `envoy/kubernetes/rbac.yaml`; a story that needs more fails.

mod changes;
mod delivery;
mod edits;
mod expired;
mod finalizers;
mod readme;
mod schema;
mod several;
mod slow;
mod start;
mod statuses;
mod trouble;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Kubernetes, SOON, Scene, Sidecar, Upstream, eventually, registry, report};
use serde_json::{Value, json};

use crate::scene::only;

/// An API server with the cluster `orders`, and what serves it.
type Story = Scene<Kubernetes>;

/// Starts everything over these backends; `None`: skipped.
async fn serve(
    story: &str,
    backends: &[&Upstream],
    settings: &[(&str, &str)],
) -> Result<Option<Story>> {
    serve_on(Kubernetes::start(story).await?, backends, settings).await
}

/// The same on an API server that the story stops and starts.
async fn serve_own(
    story: &str,
    backends: &[&Upstream],
    settings: &[(&str, &str)],
) -> Result<Option<Story>> {
    let kubernetes = Kubernetes::start_own(story, "stop the API server").await?;
    serve_on(kubernetes, backends, settings).await
}

/// The same on this one.
async fn serve_on(
    kubernetes: Option<Kubernetes>,
    backends: &[&Upstream],
    settings: &[(&str, &str)],
) -> Result<Option<Story>> {
    let Some(kubernetes) = kubernetes else {
        return Ok(None);
    };
    let document = registry::cluster("orders", backends, json!({}));
    let story = Scene::on(kubernetes, &[document], settings).await?;
    let ids: Vec<&str> = backends.iter().map(|it| it.id()).collect();
    only(&mut story.envoy.client(), &ids).await?;
    Ok(Some(story))
}

/// Ends it in good order; the sidecar asked for nothing that the shipped rights do not grant.
async fn end_well(story: Story) -> Result<()> {
    story.envoy.stop().await?;
    story.sidecar.stop().await?;
    let refused = story.store.refused();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
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
