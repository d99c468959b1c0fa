//! A real Kubernetes API server for custom resources, one for each story: deaths, hangs and empty
//! returns on demand, and a sidecar that has the rights of the shipped RBAC manifest and no others.
//!
//! With KUBECONFIG set it is that cluster, a namespace of it for each story; a story that must have
//! a server to itself is skipped then.

mod api;
mod authorizer;
mod client;
mod foreign;
mod kinds;
mod kubeconfig;
mod own;
mod pki;
mod shell;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;

use crate::wait::eventually;
use crate::{artefacts, report};
pub use api::Api;
use api::DEFINITIONS;
pub use client::Answer;
use foreign::Foreign;
use own::Own;
pub use own::Twin;

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// An API server as one story uses it; dropping it ends what was started and takes away what was
/// made.
pub struct Kubernetes {
    // Before the way there: dropped first.
    host: Host,
    api: Api,
}

/// Whose server it is.
enum Host {
    Own(Box<Own>),
    Foreign(Foreign),
}

impl Kubernetes {
    /// Whether there is one or can be; the story is skipped where not.
    pub fn is_there(story: &str) -> Result<bool> {
        let there = artefacts::kubeconfig()?.is_some() || artefacts::kubernetes().is_some();
        if !there {
            let reason = "no API server: `python3 tests/tools/fetch.py kubernetes` says why";
            report::skipped(report::KUBERNETES, story, reason)?;
        }
        Ok(there)
    }

    /// Whether there is one that is the story's alone, which `must` do something to it; else it is
    /// skipped.
    pub fn is_ours(story: &str, must: &str) -> Result<bool> {
        if artefacts::kubeconfig()?.is_some() {
            let reason = format!("not with KUBECONFIG: it must {must}");
            report::skipped(report::KUBERNETES, story, &reason)?;
            return Ok(false);
        }
        Self::is_there(story)
    }

    /// Finds or starts one with our kind installed; `None`, and the story skipped, where there is
    /// none.
    pub async fn start(story: &str) -> Result<Option<Self>> {
        Self::start_for(story, &["pointsman"]).await
    }

    /// The same for a sidecar that has these Roles of the manifest; with KUBECONFIG it has the
    /// rights of whom that names.
    pub async fn start_for(story: &str, roles: &[&str]) -> Result<Option<Self>> {
        let Some(kubeconfig) = artefacts::kubeconfig()? else {
            if !Self::is_there(story)? {
                return Ok(None);
            }
            return installed(Some(Self::launch(roles).await?)).await;
        };
        let kubernetes = Self::enter(kubeconfig).await?;
        kubernetes.report("Kubernetes API server").await?;
        Ok(Some(kubernetes))
    }

    /// A namespace of its own on the server that this file names, and whatever kinds are missing.
    pub async fn enter(kubeconfig: PathBuf) -> Result<Self> {
        let (foreign, api) = Foreign::enter(kubeconfig).await?;
        let host = Host::Foreign(foreign);
        Ok(Kubernetes { host, api })
    }

    /// One that is the story's alone, which `must` do something to it that spoils it for others.
    pub async fn start_own(story: &str, must: &str) -> Result<Option<Self>> {
        installed(Self::start_bare(story, must).await?).await
    }

    /// The same without our kind.
    pub async fn start_bare(story: &str, must: &str) -> Result<Option<Self>> {
        if !Self::is_ours(story, must)? {
            return Ok(None);
        }
        Self::launch(&["pointsman"]).await.map(Some)
    }

    async fn launch(roles: &[&str]) -> Result<Self> {
        let programs = artefacts::kubernetes().context("no API server")?;
        let own = Own::launch(programs, roles)?;
        let api = own.api();
        let host = Host::Own(Box::new(own));
        let kubernetes = Kubernetes { host, api };
        kubernetes.ready().await?;
        for definition in kinds::all() {
            kubernetes.define(&definition).await?;
        }
        kubernetes.report("apiextensions-apiserver").await?;
        Ok(kubernetes)
    }

    async fn report(&self, server: &str) -> Result<()> {
        let version = self.ask(Method::GET, "/version", None).await?.body;
        let version = version["gitVersion"]
            .as_str()
            .unwrap_or("of unknown version");
        report::component(&format!("{server} {version}"));
        Ok(())
    }

    /// The settings of a sidecar on it.
    pub fn settings(&self) -> Vec<(String, String)> {
        match &self.host {
            Host::Own(own) => self.settings_by(own.sidecar()),
            Host::Foreign(foreign) => self.settings_by(foreign.kubeconfig()),
        }
    }

    /// The settings of a sidecar that has no rights at all.
    pub fn settings_of_nobody(&self) -> Result<Vec<(String, String)>> {
        Ok(self.settings_by(self.own()?.nobody()))
    }

    fn settings_by(&self, kubeconfig: &Path) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("POINTSMAN_REGISTRY", "kubernetes".to_owned()),
            pair("MX_METADATA_NAMESPACE", self.namespace().to_owned()),
            pair("KUBECONFIG", kubeconfig.display().to_string()),
        ]
    }

    /// Runs a shell's commands, kubectl among them, with every right and in the project's folder;
    /// gives what they print.
    pub async fn shell(&self, script: &str) -> Result<String> {
        shell::run(script, self.kubeconfig()).await
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> &Path {
        match &self.host {
            Host::Own(own) => own.master(),
            Host::Foreign(foreign) => foreign.kubeconfig(),
        }
    }

    /// Where it listens, as the sidecar names it.
    pub fn url(&self) -> Result<String> {
        Ok(self.own()?.url())
    }

    /// What the sidecar asked for and has no right to, as far as that can be known.
    pub fn refused(&self) -> Vec<String> {
        let own = self.own();
        own.map(|own| own.authorizer().refused())
            .unwrap_or_default()
    }

    /// From now on it answers 500 where this resource is asked for in a way that it did not grant a
    /// moment ago.
    pub fn break_for(&self, resource: &str) -> Result<()> {
        self.own()?.authorizer().break_for(Some(resource));
        Ok(())
    }

    /// From now on it says nothing where this resource is asked for in a way that it did not grant a
    /// moment ago.
    pub fn silence_for(&self, resource: &str) -> Result<()> {
        self.own()?.authorizer().silence_for(Some(resource));
        Ok(())
    }

    /// Ends a [`Kubernetes::break_for`] and a [`Kubernetes::silence_for`].
    pub fn mend(&self) -> Result<()> {
        self.own()?.authorizer().break_for(None);
        self.own()?.authorizer().silence_for(None);
        Ok(())
    }

    /// How often it answered 500 because of [`Kubernetes::break_for`].
    pub fn broken(&self) -> Result<usize> {
        Ok(self.own()?.authorizer().unjudged())
    }

    /// Deletes our kind, and with it every object of it.
    pub async fn uninstall(&self) -> Result<()> {
        self.own()?;
        self.undefine("backendclusters.pointsman.dev").await
    }

    /// SIGKILL for the API server; its etcd lives on.
    pub fn kill(&self) -> Result<()> {
        self.own()?.kill();
        Ok(())
    }

    /// Starts it again, on the same address and with what was written.
    pub async fn restart(&mut self) -> Result<()> {
        self.own_mut()?.restart()?;
        self.ready().await?;
        self.serves_clusters().await
    }

    /// Whether it is a server of the story's own.
    pub fn is_own(&self) -> bool {
        self.own().is_ok()
    }

    /// How often it was asked for all BackendClusters of a namespace.
    pub async fn lists(&self) -> Result<u64> {
        let metrics = self.ask(Method::GET, "/metrics", None).await?.ok()?;
        let metrics = metrics.as_str().context("metrics are text")?;
        let counts = metrics.lines().filter(|line| {
            let has = |label: &str| line.contains(label);
            has("apiserver_request_total{") && has("backendclusters") && has("verb=\"LIST\"")
        });
        let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Hangs it: it keeps its connections and says nothing more.
    pub async fn hang(&self) -> Result<()> {
        self.own()?.hang().await
    }

    /// Ends a [`Kubernetes::hang`].
    pub fn resume(&self) -> Result<()> {
        self.own()?.resume()
    }

    /// A second API server over the same etcd, for who writes while this one is dead.
    pub async fn elsewhere(&self) -> Result<Twin> {
        let twin = self.own()?.twin()?;
        twin.serves_clusters().await?;
        Ok(twin)
    }

    fn own(&self) -> Result<&Own> {
        match &self.host {
            Host::Own(own) => Ok(own),
            Host::Foreign(_) => anyhow::bail!("{NOT_OURS}"),
        }
    }

    fn own_mut(&mut self) -> Result<&mut Own> {
        match &mut self.host {
            Host::Own(own) => Ok(own),
            Host::Foreign(_) => anyhow::bail!("{NOT_OURS}"),
        }
    }

    /// Its own readiness waits for informers that it has no right kinds for: a list that answers is
    /// what counts.
    async fn ready(&self) -> Result<()> {
        let own = self.own()?;
        eventually(READY_DEADLINE, "the API server to answer", async || {
            if let Err(dead) = own.ensure_running() {
                return Ok(Err(dead));
            }
            self.ask(Method::GET, DEFINITIONS, None).await?.ok()?;
            Ok(Ok(()))
        })
        .await
        .with_context(|| format!("log:\n{}", own.log_tail()))?
    }
}

const NOT_OURS: &str = "the server of KUBECONFIG is not ours to stop";

async fn installed(kubernetes: Option<Kubernetes>) -> Result<Option<Kubernetes>> {
    if let Some(kubernetes) = &kubernetes {
        kubernetes.install().await?;
    }
    Ok(kubernetes)
}

impl Deref for Kubernetes {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}
