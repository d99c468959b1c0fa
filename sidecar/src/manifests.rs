//! The manifests of `envoy/`: every field is one that Kubernetes knows, and the files fit together.

#[path = "../../filter/tests/parsers/fields.rs"]
#[allow(dead_code, reason = "the filter's own test needs more of it")]
mod fields;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is applied by itself, and not with the kustomization.
const APART: [&str; 3] = [
    "kubernetes/crd.yaml",
    "kubernetes/podmonitor.yaml",
    "kubernetes/samples.yaml",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../envoy")
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
                "NetworkPolicy" => understood::<NetworkPolicy>(&object)?,
                "Role" => understood::<Role>(&object)?,
                "RoleBinding" => understood::<RoleBinding>(&object)?,
                other => bail!("{file}: nobody checks a {other}"),
            };
            assert_eq!(seen, object, "{file}: {kind}");
            kinds.insert(kind.to_owned());
        }
    }
    ensure!(kinds.len() == 7, "{kinds:?}");
    Ok(())
}

#[test]
fn the_files_fit_together() -> Result<()> {
    let kustomization = kustomization()?;
    let generator = &kustomization["configMapGenerator"][0];
    let mut named: BTreeSet<&str> = words(&kustomization["resources"]).into_iter().collect();
    let files = words(&generator["files"]);
    named.extend(&files);
    named.extend(APART);
    for entry in std::fs::read_dir(folder().join("kubernetes"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = format!("kubernetes/{}", name.to_str().context("no text")?);
        let used = entry.file_type()?.is_dir() || named.contains(name.as_str());
        ensure!(used, "nobody uses {name}");
    }
    let readme = text("README.md")?;
    for file in APART {
        let command = format!("apply -f envoy/{file}");
        ensure!(readme.contains(&command), "nobody applies {file}");
    }

    let deployment = &objects("kubernetes/deployment.yaml")?[0];
    let pod = &deployment["spec"]["template"];
    let envoy = &pod["spec"]["containers"][0];
    let volumes = pod["spec"]["volumes"].as_array().context("volumes")?;
    let bootstrap = volumes.iter().find(|it| it["name"] == "bootstrap");
    let bootstrap = &bootstrap.context("bootstrap")?["configMap"]["name"];
    assert_eq!(bootstrap, &generator["name"]);
    let mounted = |path: &str| {
        files
            .iter()
            .any(|it| path.ends_with(it.rsplit('/').next().unwrap_or(it)))
    };
    let arguments = words(&envoy["args"]);
    let hook = words(&envoy["lifecycle"]["preStop"]["exec"]["command"]);
    for path in [arguments[1], hook[1]] {
        ensure!(
            path.starts_with("/etc/pointsman/") && mounted(path),
            "{path}"
        );
    }
    // The way to the sidecar goes by the environment: there is no shell to read a file.
    let way = &envoy["env"][0]["valueFrom"]["configMapKeyRef"];
    assert_eq!(arguments[2..4], ["--config-yaml", "$(SIDECAR)"]);
    assert_eq!(
        (&way["name"], &envoy["env"][0]["name"]),
        (bootstrap, &"SIDECAR".into())
    );
    ensure!(mounted(way["key"].as_str().unwrap_or_default()), "{way}");
    ensure!(
        arguments.contains(&"--concurrency"),
        "a worker for each core of the node"
    );
    let account = &objects("kubernetes/rbac.yaml")?[0]["metadata"]["name"];
    assert_eq!(&pod["spec"]["serviceAccountName"], account);
    Ok(())
}

/// Service, budget, policy and monitor mean these pods, and ports that they have.
#[test]
fn everybody_means_the_same_pods_and_ports() -> Result<()> {
    let deployment = &objects("kubernetes/deployment.yaml")?[0];
    let pod = &deployment["spec"]["template"];
    let envoy = &pod["spec"]["containers"][0];
    let sidecar = &pod["spec"]["initContainers"][1];
    let lists = [&envoy["ports"], &sidecar["ports"]].map(|list| list.as_array());
    let ports: BTreeSet<&str> = lists
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|port| port["name"].as_str())
        .collect();
    let only = |file: &str| -> Result<Value> {
        let mut objects = objects(file)?;
        ensure!(objects.len() == 1, "{file}");
        objects.pop().context("no object")
    };
    let (service, budget) = (
        only("kubernetes/service.yaml")?,
        only("kubernetes/disruption.yaml")?,
    );
    let (policy, monitor) = (
        only("kubernetes/network.yaml")?,
        only("kubernetes/podmonitor.yaml")?,
    );
    let labels = &pod["metadata"]["labels"];
    for selector in [
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
        &policy["spec"]["podSelector"]["matchLabels"],
        &monitor["spec"]["selector"]["matchLabels"],
        &deployment["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let mut asked = BTreeSet::new();
    asked.extend(service["spec"]["ports"][0]["targetPort"].as_str());
    for probe in ["startupProbe", "readinessProbe"] {
        asked.extend(envoy[probe]["httpGet"]["port"].as_str());
    }
    asked.extend(envoy["livenessProbe"]["tcpSocket"]["port"].as_str());
    for rule in policy["spec"]["ingress"].as_array().context("ingress")? {
        let ports = rule["ports"].as_array().context("ports")?;
        asked.extend(ports.iter().filter_map(|port| port["port"].as_str()));
    }
    let endpoints = monitor["spec"]["podMetricsEndpoints"]
        .as_array()
        .context("endpoints")?;
    let mut jobs = BTreeSet::new();
    for endpoint in endpoints {
        asked.extend(endpoint["port"].as_str());
        jobs.extend(endpoint["relabelings"][0]["replacement"].as_str());
    }
    assert_eq!(
        asked, ports,
        "every port is used, and every port that is used is there"
    );
    let rules = text("monitoring/prometheus.yaml")?;
    for job in &jobs {
        ensure!(rules.contains(&format!("job_name: {job}")), "{job}");
    }
    assert_eq!(jobs.len(), 2);
    // No scraper needs the operators' token: the sidecar has a listener for metrics alone.
    ensure!(endpoints.iter().all(|it| it["authorization"].is_null()));
    let env = sidecar["env"].as_array().context("env")?;
    let of = |name: &str| env.iter().find(|it| it["name"] == name).context("not set");
    let listen = &of("POINTSMAN_METRICS_LISTEN")?["value"];
    let port = &sidecar["ports"][0];
    assert_eq!(port["name"], endpoints[1]["port"]);
    assert_eq!(*listen, format!("0.0.0.0:{}", port["containerPort"]));
    let token = &of("POINTSMAN_ADMIN_TOKEN")?["valueFrom"]["secretKeyRef"];
    let made = format!(
        "create secret generic {} --from-literal={}=",
        token["name"].as_str().unwrap_or_default(),
        token["key"].as_str().unwrap_or_default()
    );
    ensure!(text("README.md")?.contains(&made), "{made}");
    Ok(())
}

/// Envoy, which clients talk to, holds no key to the cluster.
#[test]
fn the_sidecar_alone_has_the_accounts_token() -> Result<()> {
    let pod = &objects("kubernetes/deployment.yaml")?[0]["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(
        objects("kubernetes/rbac.yaml")?[0]["automountServiceAccountToken"],
        false
    );
    let volumes = pod["volumes"].as_array().context("volumes")?;
    let holds = |it: &&Value| it.to_string().contains("serviceAccountToken");
    let holding: Vec<&Value> = volumes.iter().filter(holds).collect();
    ensure!(holding.len() == 1, "{holding:?}");
    let sources = holding[0]["projected"]["sources"].to_string();
    for file in ["token", "ca.crt", "namespace"] {
        ensure!(
            sources.contains(&format!("\"path\":\"{file}\"")),
            "{sources}"
        );
    }
    let containers = ["initContainers", "containers"].map(|list| pod[list].as_array());
    for container in containers.into_iter().flatten().flatten() {
        let mounts = container["volumeMounts"].as_array().context("mounts")?;
        let mount = mounts.iter().find(|it| it["name"] == holding[0]["name"]);
        let place = mount.map(|it| it["mountPath"].as_str().unwrap_or_default());
        let expected = (container["name"] == "sidecar")
            .then_some("/var/run/secrets/kubernetes.io/serviceaccount");
        assert_eq!(place, expected, "{}", container["name"]);
    }
    Ok(())
}

#[test]
fn the_pod_starts_and_ends_as_it_must() -> Result<()> {
    let deployment = &objects("kubernetes/deployment.yaml")?[0];
    let pod = &deployment["spec"]["template"]["spec"];
    let envoy = &pod["containers"][0];
    let (module, sidecar) = (&pod["initContainers"][0], &pod["initContainers"][1]);

    // Without this word Envoy would wait for the sidecar's end.
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(words(&sidecar["args"]), ["serve"]);
    let told = sidecar["env"].as_array().context("env")?;
    let told = |name: &str| {
        told.iter()
            .find(|it| it["name"] == name)
            .context("not told")
    };
    assert_eq!(told("POINTSMAN_REGISTRY")?["value"], "kubernetes");
    let namespace = &told("POD_NAMESPACE")?["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(namespace, "metadata.namespace");
    // It refuses to listen for everybody without a token.
    let token = &told("POINTSMAN_ADMIN_TOKEN")?["valueFrom"]["secretKeyRef"];
    ensure!(
        token["name"].is_string() && token["key"].is_string(),
        "{token}"
    );

    let mounted = |container: &Value, volume: &str| -> Result<String> {
        let mounts = container["volumeMounts"].as_array().context("mounts")?;
        let mount = mounts.iter().find(|it| it["name"] == volume);
        let path = mount.and_then(|it| it["mountPath"].as_str());
        Ok(path
            .with_context(|| format!("{volume} is not mounted"))?
            .to_owned())
    };
    let copied = words(&module["command"]);
    let file = format!("{}/pointsman.wasm", mounted(module, "module")?);
    assert_eq!(copied.last(), Some(&file.as_str()));
    let file = format!("{}/pointsman.wasm", mounted(envoy, "module")?);
    ensure!(
        text("envoy.yaml")?.contains(&format!("filename: {file}")),
        "{file}"
    );

    // Envoy's drain, then the sidecar's own end (its default).
    let drain = text("kubernetes/drain.sh")?;
    let (_, drain) = drain
        .split_once("DRAIN_MAX_SECONDS:-")
        .context("no maximum")?;
    let (drain, _) = drain.split_once('}').context("no maximum")?;
    let grace = pod["terminationGracePeriodSeconds"]
        .as_u64()
        .context("no grace")?;
    ensure!(grace >= drain.parse::<u64>()? + 30, "{grace}");
    Ok(())
}

#[test]
fn nobody_has_more_than_needed() -> Result<()> {
    let deployment = &objects("kubernetes/deployment.yaml")?[0];
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let all = ["containers", "initContainers"].map(|list| pod[list].as_array());
    for container in all.into_iter().flatten().flatten() {
        let name = &container["name"];
        let may = &container["securityContext"];
        assert_eq!(may["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(may["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(words(&may["capabilities"]["drop"]), ["ALL"], "{name}");
        ensure!(
            container["resources"]["limits"]["memory"].is_string(),
            "{name}"
        );
    }
    for object in objects("kubernetes/rbac.yaml")? {
        let kind = object["kind"].as_str().unwrap_or("");
        ensure!(
            !kind.starts_with("Cluster"),
            "{kind}: one namespace is enough"
        );
        for rule in object["rules"].as_array().into_iter().flatten() {
            for field in ["apiGroups", "resources", "verbs"] {
                ensure!(!words(&rule[field]).contains(&"*"), "{rule}");
                ensure!(!words(&rule[field]).is_empty(), "{rule}");
            }
        }
    }
    Ok(())
}

/// The paths of a schema's properties, as [`fields`] writes them.
fn properties(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let list = &schema["items"];
    if list.is_object() {
        properties(list, &format!("{path}[]"), into);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
        properties(schema, &path, into);
        into.insert(path);
    }
}

#[test]
fn the_definition_has_every_field_of_the_parser_and_no_other() -> Result<()> {
    let [definition] = objects("kubernetes/crd.yaml")?
        .try_into()
        .ok()
        .context("one object")?;
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    let mut known = BTreeSet::new();
    properties(schema.context("no schema of spec")?, "", &mut known);
    // Services stand beside the document: the sidecar makes backends of them.
    known.retain(|path| !path.starts_with("backendsFrom"));
    let parsed = fields::of_the_parser();
    let parsed = parsed
        .iter()
        .filter_map(|path| path.strip_prefix("clusters[]."));
    assert_eq!(known, parsed.map(str::to_owned).collect());
    Ok(())
}
