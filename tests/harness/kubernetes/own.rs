//! An API server of the story's own, with its etcd and whoever says what its users may.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::api::Api;
use super::authorizer::Authorizer;
use super::client::Way;
use super::kubeconfig;
use super::pki::Pki;
use crate::artefacts;
use crate::port::Port;
use crate::process::Process;

/// The namespace of every story: each has a server of its own.
const NAMESPACE: &str = "shop";
/// Who the sidecar is there.
const SIDECAR: &str = "system:serviceaccount:shop:pointsman";

/// The running processes; dropping it kills them.
pub struct Own {
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
    way: Way,
    certificate: (PathBuf, PathBuf),
    authority: PathBuf,
    folder: TempDir,
}

/// A second API server over the same etcd; dropping it kills it.
pub struct Twin {
    // Before the port: dropped first.
    _server: Process,
    _port: Port,
    api: Api,
}

impl Own {
    /// Starts one; the sidecar has these Roles of the manifest.
    pub fn launch(programs: PathBuf, roles: &[&str]) -> Result<Self> {
        let manifest = artefacts::root().join("envoy/kubernetes/rbac.yaml");
        let manifest = fs::read_to_string(&manifest).context("the RBAC manifest")?;
        let authorizer = Authorizer::start(&manifest, roles, SIDECAR)?;
        let setup = Setup::new(programs, &authorizer)?;
        Ok(Own {
            etcd: setup.launch_etcd()?,
            server: setup.launch_server(&setup.port, "apiserver.log")?,
            authorizer,
            setup,
        })
    }

    /// Its namespace.
    pub fn api(&self) -> Api {
        self.setup.api(&self.setup.port)
    }

    /// The sidecar's kubeconfig.
    pub fn sidecar(&self) -> &Path {
        &self.setup.sidecar
    }

    /// The kubeconfig of somebody without rights.
    pub fn nobody(&self) -> &Path {
        &self.setup.nobody
    }

    /// The kubeconfig of somebody with every right.
    pub fn master(&self) -> &Path {
        &self.setup.itself
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.setup.url()
    }

    /// Who says what its users may.
    pub fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// SIGKILL for the API server.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Starts the API server again.
    pub fn restart(&mut self) -> Result<()> {
        self.server.kill();
        self.server = self
            .setup
            .launch_server(&self.setup.port, "apiserver.log")?;
        Ok(())
    }

    /// Stops the API server where it stands.
    pub async fn hang(&self) -> Result<()> {
        self.server.freeze().await
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.server.signal(Signal::SIGCONT)
    }

    /// Starts a second API server.
    pub fn twin(&self) -> Result<Twin> {
        let port = Port::reserve()?;
        Ok(Twin {
            _server: self.setup.launch_server(&port, "twin.log")?,
            api: self.setup.api(&port),
            _port: port,
        })
    }

    /// Fails where a process has ended.
    pub fn ensure_running(&self) -> Result<()> {
        self.etcd.ensure_running()?;
        self.server.ensure_running()
    }

    /// The last lines of the API server's log.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

impl Deref for Twin {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Setup {
    fn new(programs: PathBuf, authorizer: &Authorizer) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, Port::reserve()?);
        let url = format!("https://{}", port.address());
        let pki = Pki::new(folder.path())?;
        let master = pki.user("story", Some("system:masters"), "master")?;
        let sidecar = pki.user(SIDECAR, None, "sidecar")?;
        let nobody = pki.user("nobody", None, "nobody")?;
        let itself = pki.kubeconfig(&url, &master, "itself.json")?;
        let asks = format!("http://{}", authorizer.address());
        Ok(Setup {
            programs,
            etcd: Port::reserve()?,
            peers: Port::reserve()?,
            authorizer: pki.kubeconfig(&asks, &master, "authorizer.json")?,
            way: kubeconfig::read(&itself)?,
            itself,
            sidecar: pki.kubeconfig(&url, &sidecar, "sidecar.json")?,
            nobody: pki.kubeconfig(&url, &nobody, "nobody.json")?,
            certificate: pki.server()?.files,
            authority: pki.authority_file(),
            port,
            folder,
        })
    }

    fn api(&self, port: &Port) -> Api {
        let way = Way {
            port: port.address().port(),
            ..self.way.clone()
        };
        Api::new(way, NAMESPACE)
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

    fn launch_server(&self, port: &Port, log: &str) -> Result<Process> {
        let off = "NamespaceLifecycle,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,\
                   ValidatingAdmissionPolicy,MutatingAdmissionPolicy";
        let address = port.address();
        let mut command = Command::new(self.programs.join("apiserver"));
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
        Process::start(command, &self.folder.path().join(log))
    }
}
