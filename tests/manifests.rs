//! A real API server takes the samples of `envoy/kubernetes` and refuses what is wrong.

use anyhow::{Context, Result, ensure};
use harness::Kubernetes;
use harness::artefacts;
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
        kubernetes
            .apply_object(&kubernetes.clusters(), sample)
            .await?
            .ok()?;
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
        let answer = kubernetes
            .apply_object(&kubernetes.clusters(), &wrong)
            .await?;
        ensure!(
            answer.status / 100 == 4,
            "{wrong}: {} {}",
            answer.status,
            answer.body
        );
    }
    Ok(())
}

#[tokio::test]
async fn kustomize_builds_the_manifests() -> Result<()> {
    let Some(kubernetes) = Kubernetes::start("kustomize_builds_the_manifests").await? else {
        return Ok(());
    };
    let built = kubernetes
        .shell("kubectl kustomize envoy/kubernetes")
        .await?;
    let mut objects = Vec::new();
    for part in built.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(part).context("what kustomize built")?;
        objects.push(object);
    }
    let of = |kind: &str| {
        objects
            .iter()
            .filter(|it| it["kind"] == *kind)
            .collect::<Vec<_>>()
    };
    let [deployment] = of("Deployment")[..] else {
        anyhow::bail!("not one Deployment: {built}");
    };
    let pod = &deployment["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().into_iter();
    let starts = pod["initContainers"].as_array().into_iter();
    let images: Vec<&str> = containers
        .chain(starts)
        .flatten()
        .filter_map(|it| it["image"].as_str())
        .collect();
    ensure!(images.len() >= 2, "{images:?}");
    for image in images {
        // Neither a bare name nor a moving tag.
        let (name, tag) = image.rsplit_once(':').context("an image without a tag")?;
        ensure!(name.contains('/') && tag != "latest", "{image}");
    }
    let [bootstrap] = of("ConfigMap")[..] else {
        anyhow::bail!("not one ConfigMap: {built}");
    };
    let volumes = pod["volumes"].as_array().context("volumes")?;
    let named = volumes.iter().filter(|it| it["configMap"].is_object());
    let named: Vec<&Value> = named.map(|it| &it["configMap"]["name"]).collect();
    // With the hash of its content: an edit of the bootstrap rolls the Envoys.
    assert_eq!(named, [&bootstrap["metadata"]["name"]]);
    ensure!(named != [&json!("edge-bootstrap")], "{named:?}");
    for object in &objects {
        let everywhere = object["kind"] == "CustomResourceDefinition";
        let namespace = object["metadata"]["namespace"].as_str();
        ensure!(everywhere || namespace == Some("pointsman"), "{object}");
    }
    for binding in of("RoleBinding") {
        assert_eq!(binding["subjects"][0]["namespace"], "pointsman");
    }
    // The samples as they would be applied.
    for sample in of("BackendCluster") {
        kubernetes
            .apply_object(&kubernetes.clusters(), &without_namespace(sample))
            .await?
            .ok()?;
    }
    Ok(())
}

fn without_namespace(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}
