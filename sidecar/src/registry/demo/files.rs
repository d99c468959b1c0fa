//! The two files of the demo registry: the documents, and beside them the operators' words.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::registry::Listing;
use crate::registry::document::{self, DocumentError, FILE_MAX};
use crate::registry::overrides::Overrides;

/// Where they are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The documents: YAML, JSON or TOML.
    pub documents: PathBuf,
    /// The words: JSON, `{cluster: {backend: word}}`; need not exist.
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
    pub fn read_documents(&self) -> Result<Listing, DocumentError> {
        let text = document::read(&self.documents)?;
        document::check(&self.documents, &text)
    }

    /// Reads the words; a file that is not there holds none.
    pub fn read_overrides(&self) -> Result<Overrides, DocumentError> {
        let file = || self.overrides.display().to_string();
        let text = match document::read(&self.overrides) {
            Err(DocumentError::Unreadable { why, .. }) if why.kind() == io::ErrorKind::NotFound => {
                return Ok(Overrides::default());
            }
            text => text?,
        };
        let value = serde_json::from_str(&text).map_err(|why| DocumentError::Syntax {
            file: file(),
            format: "JSON",
            why: why.to_string(),
        })?;
        Overrides::read(&value).map_err(|errors| DocumentError::Container {
            file: file(),
            errors,
        })
    }
}

/// Puts a text in a file's place: whoever opens it sees the old one or the new one, and it is on
/// disk when this returns.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    if text.len() as u64 > FILE_MAX {
        let why = format!("it would have more than {FILE_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut draft = path.clone().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    if let Ok(meta) = fs::metadata(&path) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)
}
