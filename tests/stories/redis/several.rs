//! Several sidecars on one Redis: one of them writes what became of each cluster, and says how its
//! backends fare.

use std::sync::Arc;

use harness::{Behaviour, throughout};
use hyper::Method;
use tokio::task::JoinSet;

use super::*;

const LEASE: &str = "pointsman:lease";

/// The holder of the lease; waits until there is one.
async fn holder(redis: &Redis) -> Result<String> {
    eventually(SOON, "somebody to hold the lease", async || {
        match redis.ask(&["HGET", LEASE, "holder"]).await? {
            Reply::Text(holder) => Ok(holder),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await
}

#[tokio::test]
async fn rg_16_one_sidecar_writes_how_the_backends_fare_and_another_takes_over() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let long = [
        ("POINTSMAN_LEASE_DURATION", "10m"),
        ("POINTSMAN_RECONCILE_INTERVAL", "10m"),
    ];
    let story = serve(Redis::start().await?, &[&one, &two], &long).await?;
    let check = json!({"http": {}, "interval": "20ms", "timeout": "1s", "unhealthyThreshold": 1});
    let mut document = registry::cluster("orders", &[&one, &two], json!({"healthCheck": check}));
    document["backends"][1]["state"] = json!("Draining");
    one.set_health(Behaviour::status(503));
    story.store.put(&document).await?;
    let says = async |field: &str, part: &str| story.store.says("orders", field, part).await;
    says("healthy", "0").await?;
    says("normal", "1").await?;
    says("backends", "2").await?;
    one.set_health(Behaviour::Ok);
    says("healthy", "1").await?;

    // Another one serves, and writes nothing: what somebody wipes stays away until the next reading.
    let first = holder(&story.store).await?;
    let settings = story.store.settings().into_iter();
    let short = ("POINTSMAN_RECONCILE_INTERVAL".to_owned(), "1s".to_owned());
    let other = Sidecar::start_on_store(settings.chain([short])).await?;
    story.store.ask(&["DEL", "pointsman:status:orders"]).await?;
    let listings = async || {
        let status = other.status().await?;
        let listings = status["registry"]["store"]["listings"].as_u64();
        listings.with_context(|| status["registry"].to_string())
    };
    let enough = listings().await? + 3;
    let read = async || {
        let listings = listings().await?;
        ensure!(listings >= enough, "{listings} of {enough}");
        Ok(())
    };
    let wiped = async || {
        let exists = story
            .store
            .ask(&["EXISTS", "pointsman:status:orders"])
            .await?;
        ensure!(exists == Reply::Number(0), "{exists:?}");
        Ok(())
    };
    throughout(SOON, "three more readings", read, wiped).await?;
    ensure!(holder(&story.store).await? == first, "the holder changed");
    // The writer ends in good order: the other one need not wait for the end of its lease.
    story.envoy.stop().await?;
    story.sidecar.stop().await?;
    let key = "pointsman:status:orders";
    eventually(SOON, "the other one to write", async || {
        let status = story.store.ask(&["HGETALL", key]).await?;
        ensure!(status.field("healthy").is_some(), "{status:?}");
        Ok(())
    })
    .await?;
    ensure!(
        holder(&story.store).await? != first,
        "the dead hold the lease"
    );
    other.stop().await
}

/// The lease is looked at where the status is written: who has lost it without knowing writes nothing.
#[tokio::test]
async fn rg_16_who_has_lost_the_lease_writes_and_deletes_nothing() -> Result<()> {
    let one = Upstream::new("one")?;
    // It will not look at the lease again in this story.
    let settings = [
        ("POINTSMAN_LEASE_DURATION", "10m"),
        ("POINTSMAN_RECONCILE_INTERVAL", "1s"),
    ];
    let story = serve(Redis::start().await?, &[&one], &settings).await?;
    let old = registry::cluster("old", &[&one], json!({}));
    story.store.put(&old).await?;
    story.store.says("old", "backends", "1").await?;
    story
        .store
        .ask(&["HSET", LEASE, "holder", "another"])
        .await?;
    story.store.ask(&["DEL", "pointsman:cluster:old"]).await?;
    let late = registry::cluster("late", &[&one], json!({}));
    story.store.put(&late).await?;
    story.sidecar.backends("late", &["one"]).await?;
    let listings = async || {
        let status = story.sidecar.status().await?;
        let listings = status["registry"]["store"]["listings"].as_u64();
        listings.context("no listings")
    };
    let enough = listings().await? + 3;
    let read = async || {
        let listings = listings().await?;
        ensure!(listings >= enough, "{listings} of {enough}");
        Ok(())
    };
    let untouched = async || {
        for (name, there) in [("late", 0), ("old", 1)] {
            let key = format!("pointsman:status:{name}");
            let exists = story.store.ask(&["EXISTS", &key]).await?;
            ensure!(exists == Reply::Number(there), "{name}: {exists:?}");
        }
        Ok(())
    };
    throughout(SOON, "three more readings", read, untouched).await?;
    ensure!(holder(&story.store).await? == "another", "it was taken");
    Ok(())
}

/// Who writes over what another one has written meanwhile reads it first: nothing is lost.
#[tokio::test]
async fn of_operators_at_once_none_undoes_what_another_has_done() -> Result<()> {
    const WRITERS: u16 = 12;
    let one = Upstream::new("one")?;
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let sidecar = Arc::new(story.sidecar);
    let path = "/v1/clusters/orders/backends";
    // A word for now and one for later stand in two fields that each writer reads and writes.
    let mut words = JoinSet::new();
    for backend in 0..WRITERS {
        for (act, body) in [("cordon", json!({})), ("drain", json!({"startsIn": "1h"}))] {
            let sidecar = Arc::clone(&sidecar);
            let path = format!("{path}/b{backend}/{act}");
            words.spawn(async move {
                let said = sidecar.ask(Method::POST, &path, &[], &body).await?;
                ensure!(said.status == 200, "{}", said.text());
                Ok(())
            });
        }
    }
    while let Some(said) = words.join_next().await {
        said??;
    }
    let key = "pointsman:override:orders";
    let all = story.store.ask(&["HLEN", key]).await?;
    ensure!(all == Reply::Number(i64::from(2 * WRITERS)), "{all:?}");
    Ok(())
}
