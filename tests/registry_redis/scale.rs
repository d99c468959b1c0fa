//! Many clusters at once.

use std::fs;
use std::time::Instant;

use super::*;

const CLUSTERS: usize = 1000;
const BACKENDS: usize = 10;

#[tokio::test]
async fn thousands_of_records_are_each_listed_once() -> Result<()> {
    let redis = Redis::start().await?;
    let mut write = vec!["MSET".to_owned()];
    for cluster in 0..CLUSTERS {
        let address = |i| format!("10.{}.{}.{}:80", cluster / 250, cluster % 250, i + 1);
        let backends: Vec<Value> = (0..BACKENDS)
            .map(|i| json!({"id": format!("b{i}"), "address": address(i)}))
            .collect();
        write.push(format!("pointsman:cluster:c{cluster}"));
        write.push(json!({"name": format!("c{cluster}"), "backends": backends}).to_string());
    }
    redis
        .ask(&write.iter().map(String::as_str).collect::<Vec<_>>())
        .await?;

    let start = Instant::now();
    let sidecar = Sidecar::start_on_store(redis.settings()).await?;
    let ready = start.elapsed();
    let status = sidecar.status().await?;
    assert_eq!(status["clusters"].as_array().map(Vec::len), Some(CLUSTERS));
    assert_eq!(status["registry"]["rejected"], json!([]));
    let statuses = async || -> Result<usize> {
        match redis.ask(&["KEYS", "pointsman:status:*"]).await? {
            Reply::List(keys) => Ok(keys.len()),
            other => anyhow::bail!("KEYS: {other:?}"),
        }
    };
    eventually(SOON, "a status for each", async || {
        let count = statuses().await?;
        ensure!(count == CLUSTERS, "{count} statuses");
        Ok(())
    })
    .await?;
    let memory = fs::read_to_string(format!("/proc/{}/status", sidecar.process().pid()))?;
    let memory = memory
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or("no VmRSS");
    println!("{CLUSTERS} clusters, {BACKENDS} backends each: ready after {ready:?}; {memory}");
    sidecar.stop().await
}
