//! Which edits let Envoy replace a cluster with its connections (DESIGN §3), and which do not.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene, answered_by, backends, orders};

const MODIFIED: &str = "cluster_manager.cluster_modified";

/// Sets fields of the document, and says how many clusters Envoy replaced by the time that every worker
/// obeys.
async fn replaced(scene: &mut Scene, fields: &Value) -> Result<u64> {
    let before = scene.envoy.stat(MODIFIED).await?;
    scene
        .edit(|registry| {
            registry.edit(CLUSTER, |document| {
                for (field, value) in fields.as_object().into_iter().flatten() {
                    document[field] = value.clone();
                }
            })
        })
        .await?;
    Ok(scene.envoy.stat(MODIFIED).await? - before)
}

#[tokio::test]
async fn only_what_envoy_itself_must_know_replaces_its_cluster() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    let still = [
        json!({"loadBalancing": {"policy": "LeastLoaded", "slowStart": {"window": "1s"}}}),
        json!({"sticky": {}}),
        json!({"retry": {"attempts": 5}, "backoff": {"base": "2s"}}),
        json!({"passive": {"consecutive": 3, "cooldown": {}}, "whenAllUnhealthy": "Refuse"}),
        json!({"rateLimit": {"perSecond": 1000, "burst": 1000}}),
        json!({"limits": {"maxStreamsPerClient": 100, "retryAfter": "9s"}}),
        json!({"jsonRpc": {}, "refusal": {"body": "no"}}),
        json!({"backends": [{"id": "a", "address": a.address().to_string(), "weight": 7}]}),
    ];
    for fields in &still {
        let clusters = replaced(&mut scene, fields).await?;
        ensure!(clusters == 0, "{clusters} by {fields}");
    }
    let moving = [
        json!({"timeouts": {"connect": "2s"}}),
        json!({"limits": {"maxRequests": 1000}}),
        json!({"retry": {"on": ["ConnectFailure", 429]}}),
    ];
    for fields in &moving {
        let clusters = replaced(&mut scene, fields).await?;
        ensure!(clusters == 1, "{clusters} by {fields}");
    }
    // One that retries other answers has no other need of the module upstream.
    let again = replaced(
        &mut scene,
        &json!({"retry": {"on": ["ConnectFailure", 503]}}),
    )
    .await?;
    ensure!(again == 0, "{again}");
    answered_by(&mut clients, 4).await?;
    scene.ensure_sane().await
}
