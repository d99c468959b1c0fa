//! The two files of the demo registry: the documents, and beside them the operators' overrides.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::model::errors::error;
use crate::model::json;
use crate::registry::document::{self, DocumentError};

/// Where they are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The documents: YAML, JSON or TOML.
    pub documents: PathBuf,
    /// The overrides: JSON, `{cluster: {backend: override}}`; need not exist.
    pub overrides: PathBuf,
}

impl Files {
    /// The file of the documents and the one that goes with it.
    pub fn new(documents: PathBuf) -> Self {
        let mut overrides = documents.clone().into_os_string();
        overrides.push(".overrides");
        Files {
            documents,
            overrides: overrides.into(),
        }
    }

    /// Reads the documents.
    pub fn read_documents(&self) -> Result<Vec<Value>, DocumentError> {
        let text = document::read(&self.documents)?;
        document::check(&self.documents, &text)
    }

    /// Reads the overrides, by cluster; a file that is not there holds none. Each is judged by itself.
    pub fn read_overrides(&self) -> Result<Map<String, Value>, DocumentError> {
        let file = || self.overrides.display().to_string();
        let text = match document::read(&self.overrides) {
            Err(DocumentError::Unreadable { why, .. }) if why.kind() == io::ErrorKind::NotFound => {
                return Ok(Map::new());
            }
            text => text?,
        };
        let value = json::read(text.as_bytes()).map_err(|why| DocumentError::Syntax {
            file: file(),
            format: "JSON",
            why: why.to_string(),
        })?;
        match value {
            Value::Object(clusters) => Ok(clusters),
            _ => Err(DocumentError::Container {
                file: file(),
                errors: error("overrides", "must be an object of clusters"),
            }),
        }
    }
}
