//! A real Kubernetes API server for custom resources, with its etcd: deaths, hangs and empty returns
//! on demand. The sidecar reaches it with the rights of the shipped RBAC manifest and no others.

mod authorizer;
mod client;
mod kinds;
mod pki;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use nix::sys::signal::Signal;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::wait::eventually;
use crate::{artefacts, report};
use authorizer::Authorizer;
pub use client::Answer;
use pki::Pki;

const READY_DEADLINE: Duration = Duration::from_secs(60);
/// The namespace of every story.
pub const NAMESPACE: &str = "shop";
/// Who the sidecar is there.
const SIDECAR: &str = "system:serviceaccount:shop:pointsman";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// BackendClusters of the namespace.
pub const CLUSTERS: &str = "/apis/pointsman.dev/v1alpha1/namespaces/shop/backendclusters";
/// EndpointSlices of the namespace.
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// A running API server; dropping it kills it.
pub struct Kubernetes {
    // Before the ports and the folder: dropped first.
    server: Process,
    etcd: Process,
    authorizer: Authorizer,
    setup: Setup,
}

struct Setup {
    programs: PathBuf,
    port: Port,
    etcd: Port,
    peers: Port,
    authorizer: PathBuf,
    itself: PathBuf,
    sidecar: PathBuf,
    nobody: PathBuf,
    tls: Arc<ClientConfig>,
    certificate: (PathBuf, PathBuf),
    authority: PathBuf,
    folder: TempDir,
}

impl Kubernetes {
    /// Starts one with our kind installed; `None`, and the story skipped, where there is none.
    pub async fn start(story: &str) -> Result<Option<Self>> {
        Self::start_for(story, &["pointsman"]).await
    }

    /// The same for a sidecar that has these Roles of the manifest.
    pub async fn start_for(story: &str, roles: &[&str]) -> Result<Option<Self>> {
        let Some(kubernetes) = Self::start_bare(story, roles).await? else {
            return Ok(None);
        };
        kubernetes.install().await?;
        Ok(Some(kubernetes))
    }

    /// The same without our kind.
    pub async fn start_bare(story: &str, roles: &[&str]) -> Result<Option<Self>> {
        let Some(programs) = artefacts::kubernetes() else {
            let reason = "no API server: `python3 tests/tools/fetch.py kubernetes` says why";
            report::skipped(story, reason);
            return Ok(None);
        };
        let manifest = artefacts::root().join("envoy/kubernetes/rbac.yaml");
        let manifest = fs::read_to_string(&manifest).context("the RBAC manifest")?;
        let authorizer = Authorizer::start(&manifest, roles, SIDECAR)?;
        let setup = Setup::new(programs, &authorizer)?;
        let kubernetes = Kubernetes {
            etcd: setup.launch_etcd()?,
            server: setup.launch_server()?,
            authorizer,
            setup,
        };
        kubernetes.ready().await?;
        for definition in kinds::all() {
            kubernetes.define(&definition).await?;
        }
        let version = kubernetes.ask(Method::GET, "/version", None).await?.body;
        let version = version["gitVersion"]
            .as_str()
            .unwrap_or("of unknown version");
        report::component(&format!("apiextensions-apiserver {version}"));
        Ok(Some(kubernetes))
    }

    /// The settings of a sidecar on it.
    pub fn settings(&self) -> Vec<(String, String)> {
        settings(&self.setup.sidecar)
    }

    /// The settings of a sidecar that has no rights at all.
    pub fn settings_of_nobody(&self) -> Vec<(String, String)> {
        settings(&self.setup.nobody)
    }

    /// Where it listens, as the sidecar names it.
    pub fn url(&self) -> String {
        self.setup.url()
    }

    /// What the sidecar asked for and has no right to.
    pub fn refused(&self) -> Vec<String> {
        self.authorizer.refused()
    }

    /// Installs our kind, as committed.
    pub async fn install(&self) -> Result<()> {
        let file = artefacts::root().join("envoy/kubernetes/crd.yaml");
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        self.define(&serde_saphyr::from_str(&text)?).await
    }

    /// Deletes our kind, and with it every object of it.
    pub async fn uninstall(&self) -> Result<()> {
        let path = format!("{DEFINITIONS}/backendclusters.pointsman.dev");
        self.ask(Method::DELETE, &path, None).await?.ok()?;
        eventually(READY_DEADLINE, "our kind to be gone", async || {
            let answer = self.ask(Method::GET, CLUSTERS, None).await?;
            ensure!(answer.status == 404, "{}", answer.status);
            Ok(())
        })
        .await
    }

    /// Installs a kind and waits until it is served.
    async fn define(&self, definition: &Value) -> Result<()> {
        let name = definition["metadata"]["name"].as_str().context("no name")?;
        let path = format!("{DEFINITIONS}/{name}?fieldManager=story&force=true");
        self.ask(Method::PATCH, &path, Some((APPLY, definition)))
            .await?
            .ok()?;
        let spec = &definition["spec"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let group = word(&spec["group"]);
        let version = word(&spec["versions"][0]["name"]);
        let plural = word(&spec["names"]["plural"]);
        let path = format!("/apis/{group}/{version}/namespaces/{NAMESPACE}/{plural}");
        eventually(
            READY_DEADLINE,
            &format!("{name} to be served"),
            async || {
                self.ask(Method::GET, &path, None).await?.ok()?;
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
        let (to, tls) = (self.setup.port.address(), &self.setup.tls);
        client::ask(to, tls, method, path, body).await
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
        self.apply_object(CLUSTERS, &object).await
    }

    /// Applies an object.
    pub async fn apply_object(&self, kind: &str, object: &Value) -> Result<Answer> {
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let query = "fieldManager=story&force=true&fieldValidation=Strict";
        let path = format!("{kind}/{name}?{query}");
        self.ask(Method::PATCH, &path, Some((APPLY, object))).await
    }

    /// Sets or takes back the operators' words on an object: `kubectl annotate`.
    pub async fn annotate(&self, object: &str, words: Option<&Value>) -> Result<()> {
        let words = words.map(Value::to_string);
        let patch = json!({"metadata": {"annotations": {"pointsman.dev/overrides": words}}});
        let path = format!("{CLUSTERS}/{object}");
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
        self.ask(Method::DELETE, CLUSTERS, None).await?.ok()?;
        Ok(())
    }

    /// An object as it stands there.
    pub async fn get(&self, object: &str) -> Result<Value> {
        let path = format!("{CLUSTERS}/{object}");
        self.ask(Method::GET, &path, None).await?.ok()
    }

    /// SIGKILL for the API server; its etcd lives on.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Starts it again, on the same address and with what was written.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.kill();
        self.server = self.setup.launch_server()?;
        self.ready().await
    }

    /// Hangs it: it keeps its connections and says nothing more.
    pub async fn hang(&self) -> Result<()> {
        self.server.freeze().await
    }

    /// Ends a [`Kubernetes::hang`].
    pub fn resume(&self) -> Result<()> {
        self.server.signal(Signal::SIGCONT)
    }

    /// Its own readiness waits for informers that it has no right kinds for: a list that answers is
    /// what counts.
    async fn ready(&self) -> Result<()> {
        eventually(READY_DEADLINE, "the API server to answer", async || {
            for process in [&self.etcd, &self.server] {
                if let Err(dead) = process.ensure_running() {
                    return Ok(Err(dead));
                }
            }
            self.ask(Method::GET, DEFINITIONS, None).await?.ok()?;
            Ok(Ok(()))
        })
        .await
        .with_context(|| format!("log:\n{}", self.server.log_tail()))?
    }
}

/// A BackendCluster; a name in its spec that is the object's own is left to the object.
pub fn object_of(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|field, value| field != "name" || *value != *name);
    }
    json!({
        "apiVersion": "pointsman.dev/v1alpha1", "kind": "BackendCluster",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn settings(kubeconfig: &Path) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("POINTSMAN_REGISTRY", "kubernetes".to_owned()),
        pair("MX_METADATA_NAMESPACE", NAMESPACE.to_owned()),
        pair("KUBECONFIG", kubeconfig.display().to_string()),
    ]
}

impl Setup {
    fn new(programs: PathBuf, authorizer: &Authorizer) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, Port::reserve()?);
        let url = format!("https://{}", port.address());
        let pki = Pki::new(folder.path())?;
        let master = pki.user("story", Some("system:masters"), "master")?;
        let sidecar = pki.user(SIDECAR, None, "sidecar")?;
        let nobody = pki.user("nobody", None, "nobody")?;
        let asks = format!("http://{}", authorizer.address());
        Ok(Setup {
            programs,
            etcd: Port::reserve()?,
            peers: Port::reserve()?,
            authorizer: pki.kubeconfig(&asks, &master, "authorizer.json")?,
            itself: pki.kubeconfig(&url, &master, "itself.json")?,
            sidecar: pki.kubeconfig(&url, &sidecar, "sidecar.json")?,
            nobody: pki.kubeconfig(&url, &nobody, "nobody.json")?,
            tls: pki.client(&master)?,
            certificate: pki.server()?.files,
            authority: pki.authority_file(),
            port,
            folder,
        })
    }

    fn url(&self) -> String {
        format!("https://{}", self.port.address())
    }

    fn launch_etcd(&self) -> Result<Process> {
        let clients = format!("http://{}", self.etcd.address());
        let peers = format!("http://{}", self.peers.address());
        let mut command = Command::new(self.programs.join("etcd"));
        command
            .arg("--data-dir")
            .arg(self.folder.path().join("etcd"))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            // A story's data need not survive the machine.
            .arg("--unsafe-no-fsync");
        Process::start(command, &self.folder.path().join("etcd.log"))
    }

    fn launch_server(&self) -> Result<Process> {
        let off = "NamespaceLifecycle,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,\
                   ValidatingAdmissionPolicy,MutatingAdmissionPolicy";
        let address = self.port.address();
        let mut command = Command::new(self.programs.join("crd-apiserver"));
        command
            .args(["--etcd-servers", &format!("http://{}", self.etcd.address())])
            .args(["--bind-address", &address.ip().to_string()])
            .args(["--secure-port", &address.port().to_string()])
            .arg("--tls-cert-file")
            .arg(&self.certificate.0)
            .arg("--tls-private-key-file")
            .arg(&self.certificate.1)
            .arg("--client-ca-file")
            .arg(&self.authority)
            .arg("--kubeconfig")
            .arg(&self.itself)
            .arg("--authentication-kubeconfig")
            .arg(&self.itself)
            .arg("--authentication-skip-lookup")
            .arg("--authorization-kubeconfig")
            .arg(&self.authorizer)
            .arg("--enable-priority-and-fairness=false")
            .args(["--disable-admission-plugins", off]);
        Process::start(command, &self.folder.path().join("apiserver.log"))
    }
}
