//! A watch that would go on from a version that the server no longer knows: everything is read
//! again, and what happened meanwhile is not lost.

use harness::Load;
use hyper::Method;

use super::*;

/// A watch's own end comes after ten seconds.
const WATCH_END: Duration = Duration::from_secs(30);

/// Waits until the server has ended every watch of these, as it does from time to time.
async fn watches_ended(kubernetes: &Kubernetes, plural: &str) -> Result<()> {
    let what = format!("the end of the watches of {plural}");
    eventually(WATCH_END, &what, async || {
        let metrics = kubernetes.ask(Method::GET, "/metrics", None).await?;
        let metrics = metrics.body.as_str().context("no metrics")?.to_owned();
        let resource = format!("resource=\"{plural}\"");
        let mut watches = metrics.lines().filter(|it| {
            it.starts_with("apiserver_longrunning_requests{")
                && it.contains(&resource)
                && it.contains("verb=\"WATCH\"")
        });
        let open = watches.find(|it| !it.ends_with(" 0"));
        ensure!(open.is_none(), "{open:?}");
        Ok(())
    })
    .await
}

/// Waits until a watch of these from this version is answered that it is gone; a server that
/// has just started asks for patience first.
async fn expired(kubernetes: &Kubernetes, kind: &str, version: &str) -> Result<()> {
    let path = format!("{kind}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    eventually(SOON, &format!("{path} to be gone"), async || {
        let answer = kubernetes.ask(Method::GET, &path, None).await?;
        let code = &answer.body["object"]["code"];
        ensure!(*code == 410, "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_expired_version_loses_nothing() -> Result<()> {
    let all = ["one", "two", "three", "four"].map(Upstream::new);
    let [one, two, three, four] = all;
    let (one, two, three, four) = (one?, two?, three?, four?);
    let name = "an_expired_version";
    let Some(mut story) = serve_own(name, &[&one], &[]).await? else {
        return Ok(());
    };
    let (clusters, slices) = (story.store.clusters(), story.store.slices());
    let ready = json!({"ready": true});
    let with = |own: &Upstream| {
        let from = json!({"backendsFrom": [{"service": {"name": "web"}}]});
        registry::cluster("orders", &[own], from)
    };
    put_slice(&story.store, "web", &two, &ready).await?;
    story.store.put(&with(&one)).await?;
    only(&mut story.envoy.client(), &["one", "two"]).await?;
    let resolved = condition(&story.store, "orders", "ResolvedRefs", "Resolved").await?;
    let listings = story.sidecar.listings().await?;
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(100)
        .start();

    // The sidecar stands still while its watches end in good order and everything changes; the
    // server that comes back knows nothing of the time before.
    story.sidecar.hang().await?;
    watches_ended(&story.store, "backendclusters").await?;
    watches_ended(&story.store, "endpointslices").await?;
    let known = story.store.ask(Method::GET, &clusters, None).await?.ok()?;
    let known = known["metadata"]["resourceVersion"].as_str();
    let known = known.context("a list without a version")?.to_owned();
    story.store.put(&with(&three)).await?;
    story.store.delete(&slices, "two").await?;
    put_slice(&story.store, "web", &four, &ready).await?;
    story.store.restart().await?;
    for kind in [&clusters, &slices] {
        expired(&story.store, kind, &known).await?;
    }
    story.sidecar.resume()?;

    only(&mut story.envoy.client(), &["four", "three"]).await?;
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    // What a reading does not name is gone, also of the endpoints.
    story.sidecar.backends("orders", &["three", "four"]).await?;
    // It was no outage, neither of the objects nor of the endpoints.
    assert_eq!(story.sidecar.listings().await?, listings + 1);
    story.sidecar.event("registry_lost", 0).await?;
    let now = condition(&story.store, "orders", "ResolvedRefs", "Resolved").await?;
    assert_eq!(now["lastTransitionTime"], resolved["lastTransitionTime"]);
    load.stop().await?.ensure_clean()
}
