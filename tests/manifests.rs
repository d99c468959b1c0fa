//! A real API server takes the samples of `envoy/kubernetes` and refuses what is wrong.

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::kubernetes::{CLUSTERS, Kubernetes};
use serde_json::{Value, json};

fn samples() -> Result<Vec<Value>> {
    let file = artefacts::root().join("envoy/kubernetes/clusters.yaml");
    let text = std::fs::read_to_string(file)?;
    let parts = text.split("\n---\n");
    parts
        .map(|part| serde_saphyr::from_str(part).context("clusters.yaml"))
        .collect()
}

#[tokio::test]
async fn an_api_server_takes_the_samples_and_refuses_what_is_wrong() -> Result<()> {
    let story = "an_api_server_takes_the_samples_and_refuses_what_is_wrong";
    let Some(kubernetes) = Kubernetes::start(story).await? else {
        return Ok(());
    };
    let samples = samples()?;
    for sample in &samples {
        kubernetes.apply_object(CLUSTERS, sample).await?.ok()?;
    }
    let with = |pointer: &str, value: Value| -> Result<Value> {
        let mut object = samples.last().context("a sample")?.clone();
        *object
            .pointer_mut(pointer)
            .with_context(|| pointer.to_owned())? = value;
        Ok(object)
    };
    for wrong in [
        with("/spec/backends/0/address", json!("orders.example.com:8080"))?,
        with("/spec/backends/1/weight", json!(-1))?,
    ] {
        let answer = kubernetes.apply_object(CLUSTERS, &wrong).await?;
        ensure!(
            answer.status / 100 == 4,
            "{wrong}: {} {}",
            answer.status,
            answer.body
        );
    }
    Ok(())
}
