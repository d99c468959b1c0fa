//! Several sidecars on one namespace, and several objects with one name.

use harness::throughout;
use hyper::Method;

use super::*;

/// What tells one state of an object from another.
async fn version(kubernetes: &Kubernetes, object: &str) -> Result<String> {
    let object = kubernetes.get(object).await?;
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version.context("no resourceVersion")?.to_owned())
}

/// The Lease of who writes statuses.
async fn lease(kubernetes: &Kubernetes) -> Result<Value> {
    let namespace = kubernetes.namespace();
    let path =
        format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/pointsman-status");
    kubernetes.ask(Method::GET, &path, None).await?.ok()
}

/// Its proxies only are what a condition counts: it must say so.
async fn names_the_holder(kubernetes: &Kubernetes, condition: &Value) -> Result<()> {
    let lease = lease(kubernetes).await?;
    let holder = lease["spec"]["holderIdentity"].as_str();
    let holder = holder.context("nobody holds the Lease")?;
    let message = condition["message"].as_str().unwrap_or("");
    ensure!(message.contains(holder), "{holder} is not in: {message}");
    Ok(())
}

#[tokio::test]
async fn rg_12_rg_16_two_sidecars_write_one_status() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let short = [("POINTSMAN_LEASE_DURATION", "3s")];
    let Some(story) = serve("two_sidecars", &[&one], &short).await? else {
        return Ok(());
    };
    let said = condition(&story.store, "orders", "Programmed", "Programmed").await?;
    names_the_holder(&story.store, &said).await?;
    // It has no proxy: what it would say of the object is not what the other one says.
    let other = Sidecar::start_with(&story.store, &short).await?;
    let before = version(&story.store, "orders").await?;
    // The holder renews the Lease as often as the other one looks at it.
    let mut renewals = BTreeSet::new();
    let renewed = async || {
        let renewal = lease(&story.store).await?["spec"]["renewTime"].to_string();
        renewals.insert(renewal);
        ensure!(renewals.len() > 5, "{renewals:?}");
        Ok(())
    };
    throughout(
        SOON,
        "the Lease to be renewed five times",
        renewed,
        async || {
            let now = version(&story.store, "orders").await?;
            ensure!(now == before, "{before} became {now}");
            Ok(())
        },
    )
    .await?;
    // The other one hears of an object before anything is written beside it.
    let shop = registry::cluster("shop", &[&one], json!({}));
    story.store.put(&shop).await?;
    condition(&story.store, "shop", "Programmed", "Programmed").await?;
    let before = condition(&story.store, "shop", "Accepted", "Accepted").await?;
    // The writer dies: the other one takes over, and knows what stands there by then.
    story.sidecar.kill();
    condition(&story.store, "shop", "Programmed", "NoProxies").await?;
    let after = condition(&story.store, "shop", "Accepted", "Accepted").await?;
    assert_eq!(after["lastTransitionTime"], before["lastTransitionTime"]);
    let document = registry::cluster("orders", &[&one, &two], json!({}));
    story.store.put(&document).await?;
    let said = condition(&story.store, "orders", "Programmed", "NoProxies").await?;
    names_the_holder(&story.store, &said).await?;
    other.stop().await?;
    // It gives the Lease back: nobody has to wait for its end.
    let lease = lease(&story.store).await?;
    ensure!(lease["spec"]["holderIdentity"].is_null(), "{lease}");
    Ok(())
}

#[tokio::test]
async fn of_two_objects_with_one_name_the_older_wins() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(story) = serve("of_two_objects", &[&one], &[]).await? else {
        return Ok(());
    };
    let kind = story.store.clusters();
    // Times of Kubernetes are whole seconds.
    let older = story.store.get("orders").await?["metadata"]["creationTimestamp"].clone();
    let spec = registry::cluster("orders", &[&two], json!({}));
    let younger = eventually(SOON, "a younger object", async || {
        let made = story.store.apply("another", &spec).await?.ok()?;
        if made["metadata"]["creationTimestamp"] == older {
            story.store.delete(&kind, "another").await?;
            anyhow::bail!("as old as the other one");
        }
        Ok(made)
    })
    .await?;
    assert_eq!(younger["spec"]["name"], "orders");
    let taken = condition(&story.store, "another", "Accepted", "NameTaken").await?;
    let message = taken["message"].as_str().unwrap_or("");
    ensure!(
        message.contains("the older BackendCluster orders has it"),
        "{message}"
    );
    only(&mut story.envoy.client(), &["one"]).await?;
    story.store.delete(&kind, "orders").await?;
    only(&mut story.envoy.client(), &["two"]).await?;
    condition(&story.store, "another", "Programmed", "Programmed").await?;
    Ok(())
}
