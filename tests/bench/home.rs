//! Where the registry of a stage is kept, and how an edit of it is written.

use anyhow::Result;
use harness::{Home as _, Kind, Sidecar, Store};
use serde_json::Value;

/// A store with a cluster's document, and others that are never changed.
pub struct Home {
    store: Store,
    /// The document as it stands there.
    document: Value,
}

impl Home {
    /// One of this kind with this document.
    pub async fn new(kind: Kind, document: Value) -> Result<Self> {
        Self::beside(kind, document, &[]).await
    }

    /// One in which others stand, too.
    pub async fn beside(kind: Kind, document: Value, others: &[Value]) -> Result<Self> {
        let mut store = kind.start().await?;
        for other in others {
            store.keep(other).await?;
        }
        store.keep(&document).await?;
        Ok(Home { store, document })
    }

    /// A sidecar on it, with these settings beside those of the store.
    pub async fn sidecar(&self, settings: &[(&str, &str)]) -> Result<Sidecar> {
        Sidecar::start_with(&self.store, settings).await
    }

    /// Changes the document and writes it.
    pub async fn edit(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        change(&mut self.document);
        self.store.keep(&self.document).await
    }
}
