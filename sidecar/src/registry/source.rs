//! Where the registry is kept: one of three feeds.

use std::sync::Arc;

use pointsman_filter::config::ExchangeConfig;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::document::DocumentError;
use super::editor::Editor;
use super::feeds::file::FileFeed;
use super::feeds::kubernetes::{self, KubernetesFeed, KubernetesStartError};
use super::feeds::redis::{RedisFeed, RedisStartError};
use super::model::{Output, Reachability, Registry, SourceStatus, StoreKind};
use crate::settings::RegistrySettings;

/// Why there is no registry to start with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The demo file.
    #[error(transparent)]
    Demo(#[from] DocumentError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisStartError),
    /// Kubernetes.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesStartError),
}

/// Where the registry is kept.
pub enum Source {
    /// In memory, seeded from a file.
    File(Box<FileFeed>),
    /// In Redis.
    Redis(Box<RedisFeed>),
    /// In custom resources.
    Kubernetes(Box<KubernetesFeed>),
}

impl Source {
    /// Reads the registry for the first time.
    pub async fn open(
        settings: &RegistrySettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, StartError> {
        Ok(match settings {
            RegistrySettings::Demo(path) => {
                Source::File(Box::new(FileFeed::open(path.clone(), exchange)?))
            }
            RegistrySettings::Redis(redis) => {
                Source::Redis(Box::new(RedisFeed::open(redis.clone(), exchange).await?))
            }
            RegistrySettings::Kubernetes(kubernetes) => {
                let opened = KubernetesFeed::open(kubernetes.clone(), exchange).await?;
                Source::Kubernetes(Box::new(opened))
            }
        })
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        match self {
            Source::File(file) => file.registry(),
            Source::Redis(redis) => redis.registry(),
            Source::Kubernetes(kubernetes) => kubernetes.registry(),
        }
    }

    /// How it is doing right after the start.
    pub fn status(&self) -> SourceStatus {
        let (reachability, kind) = match self {
            Source::File(_) => (Reachability::Memory, StoreKind::Memory),
            Source::Redis(_) => (Reachability::Up, StoreKind::Redis),
            Source::Kubernetes(_) => (Reachability::Up, StoreKind::Kubernetes),
        };
        SourceStatus {
            reachability,
            kind,
            ..SourceStatus::default()
        }
    }

    /// Where it is, for people; without passwords.
    pub fn place(&self) -> String {
        match self {
            Source::File(file) => format!("file {}", file.path().display()),
            Source::Redis(redis) => redis.url().to_string(),
            Source::Kubernetes(kubernetes) => kubernetes.place(),
        }
    }

    /// The way to change it.
    pub fn editor(&self) -> Editor {
        match self {
            Source::File(file) => Editor::File(file.editor()),
            Source::Redis(redis) => Editor::Redis(Box::new(redis.editor())),
            Source::Kubernetes(kubernetes) => Editor::Kubernetes(Box::new(kubernetes.editor())),
        }
    }

    /// What the writer of statuses needs, where there is something to write.
    pub fn statuses(&self) -> Option<kubernetes::Statuses> {
        match self {
            Source::Kubernetes(kubernetes) => Some(kubernetes.statuses()),
            Source::File(_) | Source::Redis(_) => None,
        }
    }

    /// Publishes the registry after every change, until told to stop.
    pub async fn run(self, output: Output, stop: CancellationToken) -> Result<(), JoinError> {
        match self {
            Source::File(file) => {
                let watch = move || file.watch(&output, &stop);
                spawn_blocking(watch).await
            }
            Source::Redis(redis) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = redis.run(output) => {}
                }
                Ok(())
            }
            Source::Kubernetes(kubernetes) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = kubernetes.run(output) => {}
                }
                Ok(())
            }
        }
    }
}
