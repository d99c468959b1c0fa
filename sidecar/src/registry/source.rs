//! Where the registry is kept: one of three feeds.

use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::document::DocumentError;
use super::editor::Editor;
use super::feed::Feed;
use super::feeds::file::FileFeed;
use super::feeds::kubernetes::{KubernetesFeed, KubernetesStartError};
use super::feeds::redis::{RedisFeed, RedisStartError};
use super::follow::{Follower, Told};
use super::model::{Output, Reachability, Registry, SourceStatus, StoreKind};
use crate::settings::{RedisSettings, RegistrySettings};
use crate::stores::kubernetes::access::Access;

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
    File(Box<Follower<FileFeed>>),
    /// In Redis.
    Redis(Box<Follower<RedisFeed>>),
    /// In custom resources.
    Kubernetes(Box<Follower<KubernetesFeed>>),
}

/// What became of the records, and the way to write it back.
pub enum Statuses {
    /// Into hashes.
    Redis {
        /// Where.
        settings: Box<RedisSettings>,
        /// What is to be said.
        told: watch::Receiver<Told>,
    },
    /// Into the objects' statuses.
    Kubernetes {
        /// The way to the API server.
        access: Box<Access>,
        /// How long a lease lasts.
        lease_duration: Duration,
        /// What is to be said.
        told: watch::Receiver<Told>,
    },
}

impl Source {
    /// Reads the registry for the first time.
    pub async fn open(
        settings: &RegistrySettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, StartError> {
        Ok(match settings {
            RegistrySettings::Demo(path) => {
                Source::File(Box::new(FileFeed::start(path.clone(), exchange).await?))
            }
            RegistrySettings::Redis(redis) => {
                Source::Redis(Box::new(RedisFeed::start(redis.clone(), exchange).await?))
            }
            RegistrySettings::Kubernetes(kubernetes) => {
                let started = KubernetesFeed::start(kubernetes.clone(), exchange).await?;
                Source::Kubernetes(Box::new(started))
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
            Source::File(file) => file.feed().place(),
            Source::Redis(redis) => redis.feed().settings().url.to_string(),
            Source::Kubernetes(kubernetes) => kubernetes.feed().place(),
        }
    }

    /// The way to change it.
    pub fn editor(&self) -> Editor {
        match self {
            Source::File(file) => Editor::File(file.feed().editor()),
            Source::Redis(redis) => Editor::Redis(Box::new(redis.feed().editor())),
            Source::Kubernetes(kubernetes) => {
                let editor = kubernetes.feed().editor(kubernetes.told());
                Editor::Kubernetes(Box::new(editor))
            }
        }
    }

    /// What the writer of statuses needs, where there is something to write.
    pub fn statuses(&self) -> Option<Statuses> {
        match self {
            Source::File(_) => None,
            Source::Redis(redis) => Some(Statuses::Redis {
                settings: Box::new(redis.feed().settings().clone()),
                told: redis.told(),
            }),
            Source::Kubernetes(kubernetes) => Some(Statuses::Kubernetes {
                access: Box::new(kubernetes.feed().access().clone()),
                lease_duration: kubernetes.feed().lease_duration(),
                told: kubernetes.told(),
            }),
        }
    }

    /// Publishes the registry after every change, until told to stop.
    pub async fn run(self, output: Output, stop: CancellationToken) -> Result<(), JoinError> {
        match self {
            Source::File(file) => {
                // On a thread of its own: looks at a file may block.
                let runtime = Handle::current();
                let follow = move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = file.run(output) => {}
                        }
                    });
                };
                spawn_blocking(follow).await
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
