//! A registry file's text → its records, good and bad.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use pointsman_filter::base::hash;
use pointsman_filter::config::{
    CLUSTERS_MAX, ClusterConfig, ConfigError, ConfigErrors, SCHEMA, is_cluster_name,
};
use serde_json::Value;

use super::model::Listing;
use super::record::{Document, Record, Wanted, What};
use super::records::Records;
use crate::model::clock::Moment;
use crate::model::errors::{at, error};
use crate::model::json;
use crate::stores::file::FILE_MAX;

/// The name of the way to the sidecar in every bootstrap; no cluster of the registry may take it.
pub const SIDECAR_CLUSTER: &str = "pointsman_sidecar";

/// Why a registry file could not be read as a whole; always names the file.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It cannot be opened or read, or is not UTF-8.
    #[error("{file}: cannot be read: {why}")]
    Unreadable {
        /// As it was named.
        file: String,
        /// The system's text.
        why: std::io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{file}: must be a regular file")]
    NotAFile {
        /// As it was named.
        file: String,
    },
    /// It is longer than [`FILE_MAX`].
    #[error("{file}: must be at most {FILE_MAX} bytes")]
    TooLong {
        /// As it was named.
        file: String,
    },
    /// Its name does not say which format it has.
    #[error("{file}: must end in .yaml, .yml, .json or .toml")]
    Format {
        /// As it was named.
        file: String,
    },
    /// It is not a document of that format.
    #[error("{file}: must be {format}: {why}")]
    Syntax {
        /// As it was named.
        file: String,
        /// YAML, JSON or TOML.
        format: &'static str,
        /// The reader's text, with line and column.
        why: String,
    },
    /// It is not a registry.
    #[error("{file}: {errors}")]
    Container {
        /// As it was named.
        file: String,
        /// What is wrong, and where.
        errors: ConfigErrors,
    },
}

/// The formats of a registry file.
#[derive(Clone, Copy)]
enum Format {
    Yaml,
    Json,
    Toml,
}

impl Format {
    fn of(path: &Path) -> Result<Self, DocumentError> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "toml" => Ok(Format::Toml),
            _ => Err(DocumentError::Format {
                file: path.display().to_string(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Yaml => "YAML",
            Format::Json => "JSON",
            Format::Toml => "TOML",
        }
    }
}

/// Reads the file's text. Blocks.
pub fn read(path: &Path) -> Result<String, DocumentError> {
    let file = || path.display().to_string();
    let unreadable = |why| DocumentError::Unreadable { file: file(), why };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(DocumentError::NotAFile { file: file() });
    }
    let mut text = String::new();
    let opened = File::open(path).map_err(unreadable)?;
    // One byte more than allowed tells a file that is too long from one that just fits.
    opened
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_MAX {
        return Err(DocumentError::TooLong { file: file() });
    }
    Ok(text)
}

/// Reads the text as a container `{schema: 1, clusters: [document, …]}`: its documents, not judged.
pub fn check(path: &Path, text: &str) -> Result<Vec<Value>, DocumentError> {
    let container = parse(path, text)?;
    let items = items(&container).map_err(|errors| DocumentError::Container {
        file: path.display().to_string(),
        errors,
    })?;
    Ok(items.to_vec())
}

/// Reads the text in the format that the file's name says.
pub fn parse(path: &Path, text: &str) -> Result<Value, DocumentError> {
    let format = Format::of(path)?;
    let read = match format {
        Format::Yaml => {
            serde_saphyr::from_str_with_options(text, unquoted()).map_err(|e| e.to_string())
        }
        Format::Json => json::read(text.as_bytes()).map_err(|e| e.to_string()),
        Format::Toml => toml::from_str(text).map_err(|e| toml_error(text, &e)),
    };
    read.map_err(|why| DocumentError::Syntax {
        file: path.display().to_string(),
        format: format.name(),
        why,
    })
}

/// The same for a text that may hold several values: YAML documents one after the other.
pub fn parse_all(path: &Path, text: &str) -> Result<Vec<Value>, DocumentError> {
    match Format::of(path)? {
        Format::Yaml => {
            let read: Result<Vec<Value>, _> =
                serde_saphyr::from_multiple_with_options(text, unquoted());
            read.map_err(|why| DocumentError::Syntax {
                file: path.display().to_string(),
                format: Format::Yaml.name(),
                why: why.to_string(),
            })
        }
        Format::Json | Format::Toml => Ok(vec![parse(path, text)?]),
    }
}

/// Errors tell the place and do not quote the lines: they end up in logs and on pages, and a
/// document may hold what probes send along.
fn unquoted() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false }
}

/// The same for TOML, whose own words quote the line.
fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{} at line {line} column {column}", error.message())
}

/// Writes the value in the format that the file's name says.
pub fn print(path: &Path, value: &Value) -> Result<String, DocumentError> {
    let format = Format::of(path)?;
    let written = match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|e| e.to_string()),
        Format::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|e| e.to_string()),
        Format::Toml => toml::to_string_pretty(value).map_err(|e| e.to_string()),
    };
    written.map_err(|why| DocumentError::Syntax {
        file: path.display().to_string(),
        format: format.name(),
        why,
    })
}

/// Reads a container and judges its documents.
pub fn list(container: &Value, judge: Judge) -> Result<Listing, ConfigErrors> {
    Ok(judged(items(container)?.to_vec(), judge))
}

/// Judges a list of documents.
pub fn judged(items: Vec<Value>, judge: Judge) -> Listing {
    let mut all = Records::default();
    all.replace(records(items, judge), Moment::default());
    all.read(Moment::default()).listing
}

/// The documents of a container.
fn items(container: &Value) -> Result<&[Value], ConfigErrors> {
    let Value::Object(map) = container else {
        let why = format!("must be an object with schema: 1 to {SCHEMA} and clusters");
        return Err(error("", why));
    };
    let mut errors: Vec<ConfigError> = map
        .keys()
        .filter(|name| !matches!(name.as_str(), "schema" | "clusters"))
        .map(|name| at(name, "is not a known field"))
        .collect();
    let schema = map.get("schema").and_then(Value::as_u64);
    if !schema.is_some_and(|schema| (1..=u64::from(SCHEMA)).contains(&schema)) {
        let why = format!("is required and must be 1 to {SCHEMA}");
        errors.push(at("schema", why));
    }
    let items = match map.get("clusters") {
        Some(Value::Array(items)) if items.len() <= CLUSTERS_MAX => items.as_slice(),
        _ => {
            let why = format!("is required and must be a list of at most {CLUSTERS_MAX}");
            errors.push(at("clusters", why));
            &[]
        }
    };
    match errors.is_empty() {
        true => Ok(items),
        false => Err(ConfigErrors(errors)),
    }
}

/// What judges a cluster's document.
pub type Judge = fn(&Value) -> Result<ClusterConfig, ConfigErrors>;

/// The one judgement on a cluster's document, wherever it stands.
pub fn judge(document: &Value) -> Result<ClusterConfig, ConfigErrors> {
    let mut parsed = ClusterConfig::parse(document);
    if let Err(errors) = &mut parsed
        && document.get("backendsFrom").is_some()
    {
        for error in &mut errors.0 {
            if is_top_level(&error.path, document, "backendsFrom") {
                "is only known where the registry is kept in Kubernetes".clone_into(&mut error.why);
            }
        }
    }
    let cluster = parsed?;
    if cluster.name == SIDECAR_CLUSTER {
        let place = format!("clusters.{SIDECAR_CLUSTER}.name");
        return Err(error(
            &place,
            "must be another: this one is the way to the sidecar",
        ));
    }
    Ok(cluster)
}

/// Whether an error is about this field of the document itself.
fn is_top_level(path: &str, document: &Value, field: &str) -> bool {
    let name = document.get("name").and_then(Value::as_str);
    let place = path.strip_suffix(field).and_then(|it| it.strip_suffix('.'));
    match name {
        Some(name) => place.and_then(|it| it.strip_prefix("clusters.")) == Some(name),
        None => place == Some("cluster"),
    }
}

/// A list's documents as records: of two with one name the first has it.
pub fn records(items: Vec<Value>, judge: Judge) -> Vec<Record> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut found = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name = item.get("name").and_then(Value::as_str);
        let claim = name.filter(|name| is_cluster_name(name)).map(str::to_owned);
        let first = claim.clone().filter(|name| names.insert(name.clone()));
        // By its name it is found again wherever it moves in the list.
        let place = first.map_or_else(
            || format!("clusters[{index}]"),
            |it| format!("clusters.{it}"),
        );
        let (etag, nameless) = (etag(item.to_string().as_bytes()), claim.is_none());
        let path = place.clone();
        found.push(Record {
            place,
            rank: i64::try_from(index).unwrap_or(i64::MAX),
            what: What::Document(Document {
                claim,
                title: "a document above".to_owned(),
                etag,
                overrides: Ok(BTreeMap::new()),
                object: None,
                judge: Box::new(move || {
                    let judged = judge(&item).map(Wanted::from);
                    judged.map_err(|errors| match nameless {
                        // The parser saw one document and knows no position; a list has one.
                        true => moved(errors, "cluster", &path),
                        false => errors,
                    })
                }),
            }),
        });
    }
    found
}

/// The same errors, below `to` instead of `from`.
pub fn moved(mut errors: ConfigErrors, from: &str, to: &str) -> ConfigErrors {
    for error in &mut errors.0 {
        let below = error.path.strip_prefix(from);
        if let Some(below) = below.filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
            error.path = format!("{to}{below}");
        }
    }
    errors
}

/// What tells a document's contents apart: a hash.
pub fn etag(text: &[u8]) -> String {
    hash::hex(hash::text_key(text))
}

#[cfg(test)]
mod tests;
