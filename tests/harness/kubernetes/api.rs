//! What a story asks of an API server, in one namespace.

use std::fs;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, Way};
use super::{READY_DEADLINE, kinds};
use crate::artefacts;
use crate::wait::eventually;

/// Where kinds are defined.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// One namespace of an API server, with every right.
#[derive(Clone)]
pub struct Api {
    way: Way,
    namespace: String,
}

impl Api {
    /// This namespace, on this way.
    pub(super) fn new(way: Way, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Api { way, namespace }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// BackendClusters of the namespace.
    pub fn clusters(&self) -> String {
        self.path("pointsman.dev", "v1alpha1", "backendclusters")
    }

    /// EndpointSlices of the namespace.
    pub fn slices(&self) -> String {
        self.path("discovery.k8s.io", "v1", "endpointslices")
    }

    fn path(&self, group: &str, version: &str, plural: &str) -> String {
        let namespace = &self.namespace;
        format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}")
    }

    /// Where the objects are that this defines.
    pub(super) fn objects_of(&self, definition: &Value) -> String {
        let spec = &definition["spec"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = word(&spec["versions"][0]["name"]);
        let plural = word(&spec["names"]["plural"]);
        self.path(&word(&spec["group"]), &version, &plural)
    }

    /// Whether endpoints may be of this machine: Kubernetes' own kind refuses 127.0.0.1, the custom
    /// one that stands for it does not.
    pub async fn takes_local_endpoints(&self) -> Result<bool> {
        let path = format!("{DEFINITIONS}/endpointslices.discovery.k8s.io");
        Ok(self.ask(Method::GET, &path, None).await?.status == 200)
    }

    /// Installs our kind, as committed.
    pub async fn install(&self) -> Result<()> {
        self.define(&ours()?).await
    }

    /// Installs a kind and waits until it is served.
    pub(super) async fn define(&self, definition: &Value) -> Result<()> {
        let name = name_of(definition)?;
        let path = format!("{DEFINITIONS}/{name}?fieldManager=story&force=true");
        self.ask(Method::PATCH, &path, Some((APPLY, definition)))
            .await?
            .ok()?;
        self.served(&self.objects_of(definition)).await
    }

    /// Deletes a kind, and waits until it is gone.
    pub(super) async fn undefine(&self, name: &str) -> Result<()> {
        let path = format!("{DEFINITIONS}/{name}");
        self.ask(Method::DELETE, &path, None).await?.ok()?;
        eventually(READY_DEADLINE, &format!("{name} to be gone"), async || {
            let answer = self.ask(Method::GET, &path, None).await?;
            ensure!(answer.status == 404, "{}", answer.status);
            Ok(())
        })
        .await
    }

    /// Waits until it serves our kind.
    pub(super) async fn serves_clusters(&self) -> Result<()> {
        self.served(&self.clusters()).await
    }

    async fn served(&self, path: &str) -> Result<()> {
        eventually(
            READY_DEADLINE,
            &format!("{path} to be served"),
            async || {
                self.ask(Method::GET, path, None).await?.ok()?;
                Ok(())
            },
        )
        .await
    }

    /// One request with every right.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Answer> {
        self.way.ask(method, path, body).await
    }

    /// Applies a document as an object of the same name: `kubectl apply --server-side`.
    pub async fn put(&self, document: &Value) -> Result<()> {
        let name = document["name"]
            .as_str()
            .context("a document without a name")?;
        self.apply(name, document).await?.ok()?;
        Ok(())
    }

    /// Applies a document as an object of this name, whatever the server says to it.
    pub async fn apply(&self, object: &str, spec: &Value) -> Result<Answer> {
        let object = object_of(object, spec);
        self.apply_object(&self.clusters(), &object).await
    }

    /// Applies an object.
    pub async fn apply_object(&self, kind: &str, object: &Value) -> Result<Answer> {
        let name = name_of(object)?;
        let query = "fieldManager=story&force=true&fieldValidation=Strict";
        let path = format!("{kind}/{name}?{query}");
        self.ask(Method::PATCH, &path, Some((APPLY, object))).await
    }

    /// Sets or takes back the operators' words on an object: `kubectl annotate`.
    pub async fn annotate(&self, object: &str, words: Option<&Value>) -> Result<()> {
        let words = words.map(Value::to_string);
        let patch = json!({"metadata": {"annotations": {"pointsman.dev/overrides": words}}});
        let path = format!("{}/{object}", self.clusters());
        self.ask(Method::PATCH, &path, Some((MERGE, &patch)))
            .await?
            .ok()?;
        Ok(())
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, object: &str) -> Result<()> {
        let path = format!("{kind}/{object}");
        self.ask(Method::DELETE, &path, None).await?.ok()?;
        Ok(())
    }

    /// Deletes every BackendCluster.
    pub async fn delete_all(&self) -> Result<()> {
        self.ask(Method::DELETE, &self.clusters(), None)
            .await?
            .ok()?;
        Ok(())
    }

    /// An object as it stands there.
    pub async fn get(&self, object: &str) -> Result<Value> {
        let path = format!("{}/{object}", self.clusters());
        self.ask(Method::GET, &path, None).await?.ok()
    }
}

/// Every kind that the stories need: ours, and what they need of Kubernetes' own.
pub(super) fn all_kinds() -> Result<Vec<Value>> {
    Ok([kinds::all().to_vec(), vec![ours()?]].concat())
}

fn ours() -> Result<Value> {
    let file = artefacts::root().join("envoy/kubernetes/crd.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// An object's name.
pub(super) fn name_of(object: &Value) -> Result<&str> {
    object["metadata"]["name"].as_str().context("no name")
}

/// A BackendCluster; a name in its spec that is the object's own is left to the object.
fn object_of(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|field, value| field != "name" || *value != *name);
    }
    json!({
        "apiVersion": "pointsman.dev/v1alpha1", "kind": "BackendCluster",
        "metadata": {"name": name}, "spec": spec,
    })
}
