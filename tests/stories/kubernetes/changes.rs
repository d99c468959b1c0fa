//! A change becomes traffic, and its object says so.

use std::time::{SystemTime, UNIX_EPOCH};

use harness::registry::cluster;

use super::*;

#[tokio::test]
async fn rg_10_add_reweight_drain_remove_break_and_repair() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(story) = serve("add_reweight_drain", &[&one], &[]).await? else {
        return Ok(());
    };
    let kubernetes = &story.store;
    let mut client = story.envoy.client();
    condition(&story.store, "orders", "Accepted", "Accepted").await?;
    condition(&story.store, "orders", "ResolvedRefs", "NoReferences").await?;
    condition(&story.store, "orders", "Programmed", "Programmed").await?;

    let both = cluster("orders", &[&one, &two], json!({}));
    kubernetes.put(&both).await?;
    only(&mut client, &["one", "two"]).await?;
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    let status = &kubernetes.get("orders").await?["status"];
    assert_eq!(status["backends"]["healthy"], 2, "{status}");
    assert_eq!(status["cluster"], "orders");

    let mut reweighted = both.clone();
    reweighted["backends"][0]["weight"] = json!(0);
    kubernetes.put(&reweighted).await?;
    only(&mut client, &["two"]).await?;
    let mut draining = both.clone();
    draining["backends"][1]["state"] = json!("Draining");
    kubernetes.put(&draining).await?;
    only(&mut client, &["one"]).await?;
    kubernetes.put(&both).await?;
    only(&mut client, &["one", "two"]).await?;
    kubernetes
        .put(&cluster("orders", &[&two], json!({})))
        .await?;
    only(&mut client, &["two"]).await?;

    // Broken in a way that no schema can say: said where users look, served as before. Another
    // object still gets through.
    let twice = cluster("orders", &[&one, &one], json!({}));
    kubernetes.put(&twice).await?;
    let invalid = condition(&story.store, "orders", "Accepted", "Invalid").await?;
    let says = "clusters.orders.backends[1].id: must be unique";
    let message = invalid["message"].as_str().unwrap_or("");
    ensure!(message.starts_with(says), "{invalid}");
    condition(&story.store, "orders", "Programmed", "NotAccepted").await?;
    kubernetes
        .put(&cluster("other", &[&one], json!({})))
        .await?;
    story.sidecar.serves(&["orders", "other"]).await?;
    only(&mut client, &["two"]).await?;
    kubernetes
        .put(&cluster("orders", &[&one], json!({})))
        .await?;
    only(&mut client, &["one"]).await?;
    condition(&story.store, "orders", "Accepted", "Accepted").await?;
    end_well(story).await
}

#[tokio::test]
async fn a_services_endpoints_are_backends() -> Result<()> {
    let (one, pod) = (Upstream::new("one")?, Upstream::new("pod")?);
    let (old, stranger) = (Upstream::new("old")?, Upstream::new("stranger")?);
    let name = "a_services_endpoints";
    let Some(story) = serve(name, &[&one], &[]).await? else {
        return Ok(());
    };
    if !takes_endpoints(&story.store, name).await? {
        return Ok(());
    }
    let mut client = story.envoy.client();
    let put = async |pod: &Upstream, conditions: Value| -> Result<()> {
        put_slice(&story.store, "web", pod, &conditions).await
    };
    // Of another Service: never asked.
    let ready = json!({"ready": true});
    put_slice(&story.store, "api", &stranger, &ready).await?;
    let from = json!({"backendsFrom": [{"service": {"name": "web", "port": "http"}}]});
    story.store.put(&cluster("orders", &[&one], from)).await?;
    // At first the slices may not be read yet.
    eventually(SOON, "the Service to be missed", async || {
        let said = condition(&story.store, "orders", "ResolvedRefs", "NotFound").await?;
        let missed = said["message"] == "Service web has no EndpointSlice";
        ensure!(missed, "{said}");
        Ok(())
    })
    .await?;
    only(&mut client, &["one"]).await?;

    put(&pod, json!({"ready": true})).await?;
    put(&old, json!({"ready": true})).await?;
    only(&mut client, &["old", "one", "pod"]).await?;
    condition(&story.store, "orders", "ResolvedRefs", "Resolved").await?;
    put(
        &old,
        json!({"ready": false, "serving": true, "terminating": true}),
    )
    .await?;
    only(&mut client, &["one", "pod"]).await?;
    let state = eventually(SOON, "the pod that ends to be Draining", async || {
        let status = &story.store.get("orders").await?["status"];
        let impaired = status["impaired"][0].clone();
        ensure!(impaired["id"] == "old", "{status}");
        Ok(impaired["state"].clone())
    });
    assert_eq!(state.await?, "Draining");
    story.store.delete(&story.store.slices(), "old").await?;
    put(&pod, json!({"ready": false, "serving": false})).await?;
    only(&mut client, &["one"]).await?;
    end_well(story).await
}

#[tokio::test]
async fn an_operators_word_beats_the_document_and_ends_in_time() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(mut story) = serve("an_operators_word", &[&one, &two], &[]).await? else {
        return Ok(());
    };
    let mut client = story.envoy.client();
    let word = json!({"one": {"state": "Cordoned", "reason": "disk", "actor": "me"}});
    story.store.annotate("orders", Some(&word)).await?;
    only(&mut client, &["two"]).await?;
    // Applying the document again does not undo it, nor does a restart.
    let document = cluster("orders", &[&one, &two], json!({}));
    story.store.put(&document).await?;
    story.sidecar.restart().await?;
    only(&mut client, &["two"]).await?;
    story.store.annotate("orders", None).await?;
    only(&mut client, &["one", "two"]).await?;

    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let end = u64::try_from(now)? + 6000;
    let word = json!({"two": {"state": "Draining", "expiresAt": end}});
    story.store.annotate("orders", Some(&word)).await?;
    only(&mut client, &["one"]).await?;
    only(&mut client, &["one", "two"]).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    ensure!(now >= u128::from(end), "the word ended early");

    // What is to follow stands beside it, and takes its place.
    let start = u64::try_from(now)? + 4000;
    let next = json!({"state": "Draining", "startsAt": start, "expiresAt": start + 2000});
    let words = json!({"one": "Cordoned", "one@next": next});
    story.store.annotate("orders", Some(&words)).await?;
    only(&mut client, &["two"]).await?;
    only(&mut client, &["one", "two"]).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    ensure!(
        now >= u128::from(start) + 2000,
        "nothing took the cordon's place"
    );
    end_well(story).await
}
