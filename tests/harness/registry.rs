//! The demo registry: one file that the sidecar watches.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::upstream::Upstream;

/// A registry file in a folder of its own; every edit replaces it atomically (by a rename).
#[derive(Debug)]
pub struct Registry {
    folder: TempDir,
    file: PathBuf,
    clusters: Vec<Value>,
}

impl Registry {
    /// A file with these documents.
    pub fn new(clusters: Vec<Value>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("clusters.yaml");
        let registry = Registry {
            folder,
            file,
            clusters,
        };
        registry.write()?;
        Ok(registry)
    }

    /// A file of another name, and so of another format, with this text.
    ///
    /// Only [`Registry::write_text`] makes sense to change it.
    pub fn of_text(name: &str, text: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let registry = Registry {
            file: folder.path().join(name),
            folder,
            clusters: Vec::new(),
        };
        registry.write_text(text)?;
        Ok(registry)
    }

    /// The file, for `--demo-file`.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The container `{schema, clusters}` as it stands, for a static Envoy.
    pub fn container(&self) -> Value {
        json!({"schema": 1, "clusters": self.clusters})
    }

    /// Adds a document, or replaces the one of the same name, and writes the file.
    pub fn put(&mut self, document: Value) -> Result<()> {
        self.clusters
            .retain(|cluster| cluster["name"] != document["name"]);
        self.clusters.push(document);
        self.write()
    }

    /// Changes one document, and writes the file.
    pub fn edit(&mut self, cluster: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let document = self
            .clusters
            .iter_mut()
            .find(|document| document["name"] == cluster);
        change(document.with_context(|| format!("no cluster {cluster} in the registry"))?);
        self.write()
    }

    /// Changes one backend's entry, and writes the file.
    pub fn edit_backend(
        &mut self,
        cluster: &str,
        id: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<()> {
        let document = self
            .clusters
            .iter_mut()
            .find(|document| document["name"] == cluster);
        let backend = document
            .and_then(|document| document["backends"].as_array_mut())
            .and_then(|backends| backends.iter_mut().find(|backend| backend["id"] == id));
        change(backend.with_context(|| format!("no backend {id} in cluster {cluster}"))?);
        self.write()
    }

    /// Removes one document, and writes the file.
    pub fn remove(&mut self, cluster: &str) -> Result<()> {
        self.clusters.retain(|document| document["name"] != cluster);
        self.write()
    }

    /// Puts any text into the file, for registries that are not even documents.
    pub fn write_text(&self, text: &str) -> Result<()> {
        let draft = self.folder.path().join(".draft");
        fs::write(&draft, text)?;
        fs::rename(&draft, &self.file).context("cannot replace the registry file")
    }

    /// Writes the documents as they stand (JSON, which is YAML too).
    pub fn write(&self) -> Result<()> {
        self.write_text(&serde_json::to_string_pretty(&self.container())?)
    }
}

/// A document with these backends and every default; `extra` overwrites or adds fields.
pub fn cluster(name: &str, backends: &[&Upstream], extra: Value) -> Value {
    let backends: Vec<Value> = backends.iter().map(|upstream| backend(upstream)).collect();
    let mut document = json!({"name": name, "backends": backends});
    if let (Some(document), Value::Object(extra)) = (document.as_object_mut(), extra) {
        document.extend(extra);
    }
    document
}

/// One backend's entry: its id and address.
pub fn backend(upstream: &Upstream) -> Value {
    json!({"id": upstream.id(), "address": upstream.address().to_string()})
}

/// The same, as a backup.
pub fn backup(upstream: &Upstream) -> Value {
    json!({"id": upstream.id(), "address": upstream.address().to_string(), "backup": true})
}
