//! A cluster that is not the stories' own is left as it was found.

use anyhow::{Result, ensure};
use harness::{Kubernetes, SOON, eventually};
use hyper::Method;
use serde_json::json;

/// The status and the number of objects of a list.
async fn list(kubernetes: &Kubernetes, path: &str) -> Result<(u16, usize)> {
    let answer = kubernetes.ask(Method::GET, path, None).await?;
    let items = answer.body["items"].as_array();
    Ok((answer.status, items.map_or(0, Vec::len)))
}

#[tokio::test]
async fn a_foreign_cluster_is_left_as_it_was_found() -> Result<()> {
    let must = "be the cluster that others enter";
    let Some(found) = Kubernetes::start_bare("a_foreign_cluster", must).await? else {
        return Ok(());
    };
    let enter = || Kubernetes::enter(found.kubeconfig().to_owned());
    let (first, second) = (enter().await?, enter().await?);
    ensure!(first.namespace() != second.namespace());
    for story in [&first, &second] {
        story.put(&json!({"name": "orders"})).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web"}, "addressType": "IPv4", "endpoints": [],
        });
        let written = story.apply_object(&story.slices(), &slice).await?;
        written.ok()?;
        assert_eq!(list(&found, &story.clusters()).await?, (200, 1));
    }
    let [(clusters, slices), (others, _)] =
        [&first, &second].map(|story| (story.clusters(), story.slices()));

    drop(first);
    // Its objects are gone; the kinds serve the other one.
    assert_eq!(list(&found, &clusters).await?, (200, 0));
    assert_eq!(list(&found, &slices).await?, (200, 0));
    assert_eq!(list(&found, &others).await?, (200, 1));
    drop(second);
    eventually(SOON, "the kind to be gone", async || {
        let seen = list(&found, &others).await?;
        ensure!(seen == (404, 0), "{seen:?}");
        Ok(())
    })
    .await?;
    // What was there before is still there.
    assert_eq!(list(&found, &slices).await?, (200, 0));
    Ok(())
}
