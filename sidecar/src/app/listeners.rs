//! Where peers, operators and scrapers connect, bound before anything is read.

use std::path::Path;

use anyhow::Context;
use axum::Router;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::stages::Stages;
use crate::admin::{self, Readiness};
use crate::net::listener::Listener;
use crate::settings::{Listen, Settings};

/// What is bound; nobody is answered yet.
pub struct Listeners {
    xds: Listener,
    admin: Listener,
    metrics: Option<Listener>,
    pub addresses: Addresses,
}

/// The addresses that were bound, where settings may have left the port to the system.
#[derive(Clone, Serialize)]
pub struct Addresses {
    pub xds: String,
    pub admin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
}

/// What is answered on the listeners of operators and scrapers; each sender takes what replaces it.
pub struct Pages {
    pub routes: watch::Sender<Router>,
    pub figures: watch::Sender<Router>,
    /// Whether only this machine can reach the operators' listener.
    pub local: bool,
}

impl Listeners {
    /// Binds them all, and writes their addresses where the settings say.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let xds = Listener::bind(&settings.xds_listen).await?;
        let admin = Listener::bind(&Listen::Tcp(settings.admin_listen)).await?;
        let metrics = match settings.metrics_listen {
            Some(address) => Some(Listener::bind(&Listen::Tcp(address)).await?),
            None => None,
        };
        let addresses = Addresses {
            xds: xds.address()?,
            admin: admin.address()?,
            metrics: metrics.as_ref().map(Listener::address).transpose()?,
        };
        if let Some(path) = &settings.ports_file {
            write_ports(path, &addresses)?;
        }
        Ok(Listeners {
            xds,
            admin,
            metrics,
            addresses,
        })
    }

    /// Answers who asks how the process is, from now on; the listener of peers waits for a registry.
    pub fn answer_early(
        self,
        stages: &mut Stages,
        readiness: &Readiness,
    ) -> anyhow::Result<(Listener, Pages)> {
        let early = || watch::Sender::new(admin::early(readiness.clone()));
        let pages = Pages {
            routes: early(),
            figures: early(),
            local: self.admin.is_local()?,
        };
        let serving = admin::serve(self.admin, pages.routes.subscribe(), stages.stop());
        stages.start("admin", serving);
        if let Some(listener) = self.metrics {
            let serving = admin::serve(listener, pages.figures.subscribe(), stages.stop());
            stages.start("metrics", serving);
        }
        Ok((self.xds, pages))
    }
}

/// Written beside and renamed, so that who sees the file sees all of it.
fn write_ports(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, json!(addresses).to_string())
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
