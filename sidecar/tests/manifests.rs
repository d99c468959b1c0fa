//! The manifests of `envoy/kubernetes`: every field is one that Kubernetes knows, and the files fit
//! together.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../envoy/kubernetes")
}

fn text(file: &str) -> Result<String> {
    let path = folder().join(file);
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

/// The objects of one file.
fn objects(file: &str) -> Result<Vec<Value>> {
    let text = text(file)?;
    let parts = text.split("\n---\n");
    parts
        .map(|part| serde_saphyr::from_str(part).with_context(|| file.to_owned()))
        .collect()
}

fn kustomization() -> Result<Value> {
    Ok(serde_saphyr::from_str(&text("kustomization.yaml")?)?)
}

fn words(list: &Value) -> Vec<&str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect()
}

/// The object as its type understands it: a field that it does not know is gone.
fn understood<K: DeserializeOwned + Serialize>(object: &Value) -> Result<Value> {
    Ok(serde_json::to_value(serde_json::from_value::<K>(
        object.clone(),
    )?)?)
}

#[test]
fn no_field_is_lost_on_kubernetes_types() -> Result<()> {
    let mut kinds = BTreeSet::new();
    for file in words(&kustomization()?["resources"]) {
        for object in objects(file)? {
            let kind = object["kind"]
                .as_str()
                .context("an object without a kind")?;
            let seen = match kind {
                "Deployment" => understood::<Deployment>(&object)?,
                "Service" => understood::<Service>(&object)?,
                "PodDisruptionBudget" => understood::<PodDisruptionBudget>(&object)?,
                "ServiceAccount" => understood::<ServiceAccount>(&object)?,
                "Role" => understood::<Role>(&object)?,
                "RoleBinding" => understood::<RoleBinding>(&object)?,
                // The API server judges these.
                "CustomResourceDefinition" | "BackendCluster" => object.clone(),
                other => bail!("{file}: nobody checks a {other}"),
            };
            assert_eq!(seen, object, "{file}: {kind}");
            kinds.insert(kind.to_owned());
        }
    }
    ensure!(kinds.len() == 8, "{kinds:?}");
    Ok(())
}

#[test]
fn the_files_fit_together() -> Result<()> {
    let kustomization = kustomization()?;
    let generator = &kustomization["configMapGenerator"][0];
    let mut named: BTreeSet<&str> = words(&kustomization["resources"]).into_iter().collect();
    named.extend(words(&generator["files"]));
    named.insert("kustomization.yaml");
    for entry in std::fs::read_dir(folder())? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().context("a name that is no text")?;
        ensure!(
            entry.file_type()?.is_dir() || named.contains(name),
            "nobody uses {name}"
        );
    }

    let deployment = &objects("deployment.yaml")?[0];
    let pod = &deployment["spec"]["template"];
    let envoy = &pod["spec"]["containers"][0];
    let volumes = pod["spec"]["volumes"].as_array().context("volumes")?;
    let bootstrap = volumes.iter().find(|it| it["name"] == "bootstrap");
    assert_eq!(
        bootstrap.context("bootstrap")?["configMap"]["name"],
        generator["name"]
    );
    for (path, file) in [
        (envoy["args"][1].as_str(), "envoy.yaml"),
        (
            envoy["lifecycle"]["preStop"]["exec"]["command"][1].as_str(),
            "drain.sh",
        ),
    ] {
        assert_eq!(path, Some(format!("/etc/pointsman/{file}").as_str()));
        ensure!(words(&generator["files"]).contains(&file), "{file}");
    }
    let ports = envoy["ports"].as_array().context("ports")?;
    let has_port = |name: &Value| ports.iter().any(|port| port["name"] == *name);
    let [service, budget] = &objects("service.yaml")?[..] else {
        bail!("service.yaml has other objects");
    };
    for name in [
        &envoy["readinessProbe"]["httpGet"]["port"],
        &envoy["livenessProbe"]["tcpSocket"]["port"],
        &service["spec"]["ports"][0]["targetPort"],
    ] {
        ensure!(has_port(name), "no port {name}");
    }
    let labels = &pod["metadata"]["labels"];
    for selector in [
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
        &deployment["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let account = &objects("rbac.yaml")?[0]["metadata"]["name"];
    assert_eq!(&pod["spec"]["serviceAccountName"], account);
    Ok(())
}
