//! The manifests of `envoy/` as people apply them: kubectl builds them, and a real API server takes what
//! the commands of envoy/README.md give it, and refuses what is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Kubernetes, artefacts, eventually, report};
use serde_json::{Value, json};

fn samples() -> Result<Vec<Value>> {
    let file = artefacts::root().join("envoy/kubernetes/samples.yaml");
    let text = std::fs::read_to_string(file)?;
    let parts = text.split("\n---\n");
    parts
        .map(|part| serde_saphyr::from_str(part).context("samples.yaml"))
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

/// The commands of envoy/README.md for a fresh cluster, one a line.
fn commands() -> Result<Vec<String>> {
    let readme = fs::read_to_string(artefacts::root().join("envoy/README.md"))?;
    let (_, section) = readme
        .split_once("\n### Kubernetes\n")
        .context("no section")?;
    let (_, block) = section.split_once("```sh\n").context("no commands")?;
    let (block, _) = block.split_once("```").context("no end")?;
    let commands: Vec<String> = block.lines().map(str::to_owned).collect();
    ensure!(commands.len() == 7, "{commands:?}");
    Ok(commands)
}

/// In one go, as they stand. The server here has only custom resources: no namespaces, Secrets,
/// Deployments. With KUBECONFIG all of it is typed, unless somebody's Pointsman is there.
#[tokio::test]
async fn the_commands_of_the_readme_work_on_a_fresh_cluster() -> Result<()> {
    let story = "the_commands_of_the_readme_work_on_a_fresh_cluster";
    let whole = artefacts::kubeconfig()?.is_some();
    let started = match whole {
        true => Kubernetes::start(story).await?,
        false => Kubernetes::start_bare(story, "be fresh").await?,
    };
    let Some(kubernetes) = started else {
        return Ok(());
    };
    if whole
        && kubernetes
            .shell("kubectl get namespace pointsman")
            .await
            .is_ok()
    {
        let reason = "the cluster has a namespace pointsman already";
        report::skipped(report::KUBERNETES, story, reason)?;
        return Ok(());
    }
    let foreign = ["create namespace", "create secret", "apply -k"];
    let typed: Vec<String> = commands()?
        .into_iter()
        .filter(|it| whole || !foreign.iter().any(|kind| it.contains(kind)))
        .collect();
    let script = typed.join("\n");
    // A kind is listed a moment after it is established; applying again changes nothing.
    let shown = match whole {
        true => kubernetes.shell(&script).await,
        false => {
            eventually(
                Duration::from_secs(30),
                "the commands to go through",
                async || kubernetes.shell(&script).await,
            )
            .await
        }
    };
    if whole {
        let away = "kubectl delete -k envoy --ignore-not-found; kubectl delete namespace pointsman";
        kubernetes.shell(away).await?;
    }
    let shown = shown?;
    for sample in samples()? {
        let name = sample["metadata"]["name"].as_str().unwrap_or_default();
        ensure!(shown.contains(&format!("{name}  ")), "no {name} in {shown}");
    }
    Ok(())
}

/// What `kubectl kustomize` makes of the folder.
async fn built(kubernetes: &Kubernetes) -> Result<Vec<Value>> {
    let built = kubernetes.shell("kubectl kustomize envoy").await?;
    let parts = built.split("\n---\n");
    parts
        .map(|part| serde_saphyr::from_str(part).context("what kustomize built"))
        .collect()
}

fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|it| it["kind"] == kind).collect()
}

/// Every value that stands under this key, at any depth.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                }
                under(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

#[tokio::test]
async fn kustomize_builds_manifests_that_fit_together() -> Result<()> {
    let story = "kustomize_builds_manifests_that_fit_together";
    let Some(kubernetes) = Kubernetes::start(story).await? else {
        return Ok(());
    };
    let objects = built(&kubernetes).await?;
    let kinds: Vec<&str> = objects
        .iter()
        .filter_map(|it| it["kind"].as_str())
        .collect();
    // What names another stands behind it, and nothing needs a kind that a cluster may not have.
    let expected = [
        "ServiceAccount",
        "Role",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
        "NetworkPolicy",
    ];
    assert_eq!(kinds, expected);
    for object in &objects {
        assert_eq!(object["metadata"]["namespace"], "pointsman", "{object}");
    }
    let deployment = of(&objects, "Deployment")[0];
    let pod = &deployment["spec"]["template"]["spec"];
    let name = |kind: &str| &of(&objects, kind)[0]["metadata"]["name"];
    assert_eq!(&pod["serviceAccountName"], name("ServiceAccount"));
    let binding = of(&objects, "RoleBinding")[0];
    assert_eq!(&binding["roleRef"]["name"], name("Role"));
    assert_eq!(&binding["subjects"][0]["name"], name("ServiceAccount"));
    assert_eq!(binding["subjects"][0]["namespace"], "pointsman");

    // With the hash of its content: an edit of the bootstrap rolls the Envoys.
    let bootstrap = of(&objects, "ConfigMap")[0];
    ensure!(bootstrap["metadata"]["name"] != "edge-bootstrap", "no hash");
    let mut maps = Vec::new();
    for key in ["configMap", "configMapKeyRef"] {
        under(pod, key, &mut maps);
    }
    let maps: BTreeSet<&str> = maps.iter().filter_map(|it| it["name"].as_str()).collect();
    let known = bootstrap["metadata"]["name"].as_str().context("no name")?;
    assert_eq!(maps, BTreeSet::from([known, "kube-root-ca.crt"]));
    for file in ["envoy.yaml", "sidecar.yaml"] {
        let shipped = fs::read_to_string(artefacts::bootstrap(file)?)?;
        assert_eq!(bootstrap["data"][file], shipped.as_str(), "{file}");
    }
    let mut secrets = Vec::new();
    under(pod, "secretKeyRef", &mut secrets);
    let commands = commands()?.join("\n");
    for secret in secrets {
        let name = secret["name"].as_str().context("no name")?;
        ensure!(
            commands.contains(&format!("create secret generic {name} ")),
            "{name}"
        );
    }

    let mut images = Vec::new();
    under(pod, "image", &mut images);
    ensure!(images.len() == 3, "{images:?}");
    for image in images.into_iter().filter_map(Value::as_str) {
        // Neither a bare name nor a moving tag.
        let (name, tag) = image.rsplit_once(':').context("an image without a tag")?;
        ensure!(name.contains('/') && tag != "latest", "{image}");
    }
    Ok(())
}
