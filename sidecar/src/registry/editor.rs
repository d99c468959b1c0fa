//! Changing the registry where it is kept, never what is served of it.
//!
//! A write goes to the store; the source then reads it like a change that anybody else made. What
//! is written has been judged by the one parser before, and may depend on what stands there.

use super::document::{self, Judge};
use super::edit::{CompareAndSwap, Document, Draft, EditError, Expect, Written};
use super::feeds::file::FileEditor;
use super::feeds::kubernetes::{self, KubernetesEditor};
use super::feeds::redis::RedisEditor;
use crate::model::clock;
use crate::model::overrides::{Edit, Override};

/// The way to change the registry.
#[derive(Clone)]
pub enum Editor {
    /// The demo file and the overrides beside it.
    File(FileEditor),
    /// Redis.
    Redis(Box<RedisEditor>),
    /// Kubernetes.
    Kubernetes(Box<KubernetesEditor>),
}

impl Editor {
    /// What judges documents for this store: only Kubernetes has Services to name.
    pub fn judge(&self) -> Judge {
        match self {
            Editor::File(_) | Editor::Redis(_) => document::judge,
            Editor::Kubernetes(_) => kubernetes::judge,
        }
    }

    /// The document that stands under a cluster's name.
    pub async fn read(&self, cluster: &str) -> Result<Option<Document>, EditError> {
        match self {
            Editor::File(file) => file.read(cluster).await,
            Editor::Redis(redis) => redis.read(cluster).await,
            Editor::Kubernetes(kubernetes) => kubernetes.read(cluster).await,
        }
    }

    /// Writes a document.
    pub async fn write(&self, draft: &Draft, expect: &Expect) -> Result<Written, EditError> {
        let (name, value) = (draft.cluster().name.as_str(), Some(draft.value()));
        match self {
            Editor::File(file) => file.replace(name, value, expect).await,
            Editor::Redis(redis) => redis.replace(name, value, expect).await,
            Editor::Kubernetes(kubernetes) => kubernetes.replace(name, value, expect).await,
        }
    }

    /// Deletes a document.
    pub async fn delete(&self, cluster: &str, expect: &Expect) -> Result<Written, EditError> {
        match self {
            Editor::File(file) => file.replace(cluster, None, expect).await,
            Editor::Redis(redis) => redis.replace(cluster, None, expect).await,
            Editor::Kubernetes(kubernetes) => kubernetes.replace(cluster, None, expect).await,
        }
    }

    /// The store's clock, ms since 1970: what overrides expire by.
    pub async fn now(&self) -> Result<u64, EditError> {
        match self {
            Editor::File(_) | Editor::Kubernetes(_) => Ok(clock::now()),
            Editor::Redis(redis) => redis.now().await,
        }
    }

    /// Applies an operator's act on a backend; what it was on, as it is now. What has ended goes with
    /// it.
    pub async fn edit_override(
        &self,
        cluster: &str,
        backend: &str,
        act: &Edit,
    ) -> Result<Option<Override>, EditError> {
        match self {
            Editor::File(file) => file.edit_override(cluster, backend, act).await,
            Editor::Redis(redis) => redis.edit_override(cluster, backend, act).await,
            Editor::Kubernetes(kubernetes) => kubernetes.edit_override(cluster, backend, act).await,
        }
    }
}
