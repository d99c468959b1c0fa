//! Many clusters at once.

use std::time::Instant;

use super::*;

const CLUSTERS: usize = 1000;
const BACKENDS: usize = 10;
/// One change after the other, not paced: what is printed is their median.
const CHANGES: usize = 5;
const UNPACED: (&str, &str) = ("POINTSMAN_CHANGE_INTERVAL", "10ms");

/// A document whose backends nobody asks.
fn filler(cluster: usize) -> Value {
    let address = |i| format!("10.{}.{}.{}:80", cluster / 250, cluster % 250, i + 1);
    let backends: Vec<Value> = (0..BACKENDS)
        .map(|i| json!({"id": format!("b{i}"), "address": address(i)}))
        .collect();
    json!({"name": format!("c{cluster}"), "backends": backends})
}

/// Writes them all in one go, with the cluster that is asked among them.
async fn fill(redis: &Redis, asked: Value) -> Result<()> {
    let mut write = vec!["MSET".to_owned()];
    let documents = (1..CLUSTERS).map(filler).chain([asked]);
    for document in documents {
        let name = document["name"].as_str().unwrap_or_default();
        write.push(format!("pointsman:cluster:{name}"));
        write.push(document.to_string());
    }
    let write: Vec<&str> = write.iter().map(String::as_str).collect();
    redis.ask(&write).await?;
    Ok(())
}

#[tokio::test]
async fn ten_thousand_backends_are_listed_routed_and_changed() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let redis = Redis::start().await?;
    fill(&redis, registry::cluster("orders", &[&one], json!({}))).await?;

    let start = Instant::now();
    let unpaced = (UNPACED.0.to_owned(), UNPACED.1.to_owned());
    let settings = redis.settings().into_iter().chain([unpaced]);
    let sidecar = Sidecar::start_on_store(settings).await?;
    let ready = start.elapsed();
    let status = sidecar.status().await?;
    assert_eq!(status["clusters"].as_array().map(Vec::len), Some(CLUSTERS));
    assert_eq!(status["registry"]["rejected"], json!([]));
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    let mut client = envoy.client();
    served_by(&mut client, &["one"]).await?;
    let served = start.elapsed();

    let mut changes = Vec::new();
    for change in 0..CHANGES {
        let to = [&two, &one][change % 2];
        let begun = Instant::now();
        redis
            .put(&registry::cluster("orders", &[to], json!({})))
            .await?;
        served_by(&mut client, &[to.id()]).await?;
        changes.push(begun.elapsed());
    }
    changes.sort();
    println!(
        "{CLUSTERS} clusters, {BACKENDS} backends each: ready after {ready:?}, first request \
         after {served:?}; a change {:?} ({:?} to {:?}); resident: sidecar {} kB, Envoy {} kB",
        changes[CHANGES / 2],
        changes[0],
        changes[CHANGES - 1],
        sidecar.process().resident()? / 1000,
        envoy.process().resident()? / 1000,
    );

    eventually(SOON, "a status for each", async || {
        let count = match redis.ask(&["KEYS", "pointsman:status:*"]).await? {
            Reply::List(keys) => keys.len(),
            other => anyhow::bail!("KEYS: {other:?}"),
        };
        ensure!(count == CLUSTERS, "{count} statuses");
        Ok(())
    })
    .await?;
    envoy.stop().await?;
    sidecar.stop().await
}
