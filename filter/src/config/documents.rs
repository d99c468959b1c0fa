//! The clusters of a container as texts, of which only those are read that nobody has read before.

use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::cluster::{self, ClusterConfig};
use super::container::{CLUSTERS_MAX, FilterConfig, SCHEMA};
use super::reader::{ConfigError, ConfigErrors, Path, Report};
use crate::base::hash::{self, KeyMap};

/// A cluster's document, as it stands in a container.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    text: &'a str,
    index: usize,
}

/// What names a document: a hash of its text, the text's length, and the schema by which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentKey {
    /// The 64-bit hash.
    pub hash: u64,
    length: usize,
    schema: u64,
}

/// A document that was read.
pub struct ReadCluster {
    /// What it says.
    pub config: ClusterConfig,
    /// What was passed over in it as the news of a newer schema.
    pub ignored: u32,
}

/// All of a container but its clusters, of which the names are known as they are read or kept.
pub struct Container {
    config: FilterConfig,
    schema: u64,
    /// The keys of the clusters' names.
    names: KeyMap<u32>,
    report: Report,
}

impl Container {
    /// Reads all of a container but its clusters. No bytes at all are an empty one.
    pub fn split(json: &[u8]) -> Result<(Self, Vec<Document<'_>>), ConfigErrors> {
        let (root, texts) = match json.trim_ascii() {
            b"" => (json!({"schema": SCHEMA}), Vec::new()),
            json => split(json).map_err(|error| {
                let (path, why) = (String::new(), format!("must be JSON: {error}"));
                ConfigErrors(vec![ConfigError { path, why }])
            })?,
        };
        let schema = root.get("schema").and_then(Value::as_u64).unwrap_or(0);
        let report = Report::new(schema > u64::from(SCHEMA));
        let config = FilterConfig::read(&root, &report);
        let container = Container {
            config: config.unwrap_or_else(FilterConfig::empty),
            schema,
            names: KeyMap::default(),
            report,
        };
        let documents = texts.into_iter().enumerate();
        let documents = documents.map(|(index, text)| Document {
            text: text.get(),
            index,
        });
        Ok((container, documents.collect()))
    }

    /// What names one of its documents.
    pub fn key(&self, document: &Document<'_>) -> DocumentKey {
        DocumentKey {
            hash: hash::text_key(document.text.as_bytes()),
            length: document.text.len(),
            schema: self.schema,
        }
    }

    /// Reads a document; `None` where something is wrong with it, which `close` tells.
    pub fn read(&mut self, document: &Document<'_>) -> Option<ReadCluster> {
        let Document { text, index } = *document;
        let value: Value = match serde_json::from_slice(text.as_bytes()) {
            Ok(value) => value,
            Err(error) => {
                let place = format!("clusters[{index}]");
                let why = format!("must be JSON: {error}");
                self.report.error(&Path::Root(&place), why);
                return None;
            }
        };
        let before = self.report.ignored();
        let place = cluster::place_of(&value, Some(index));
        let config = ClusterConfig::read(&value, &Path::Root(&place), &self.report)?;
        let ignored = self.report.ignored().saturating_sub(before);
        self.take_name(&config.name);
        Some(ReadCluster { config, ignored })
    }

    /// Notes a cluster whose document was read before, and what was passed over in it then.
    pub fn keep(&mut self, name: &str, ignored: u32) {
        self.report.ignore(ignored);
        self.take_name(name);
    }

    /// All but the clusters, or everything that is wrong.
    pub fn close(self) -> Result<FilterConfig, ConfigErrors> {
        let ignored_fields = self.report.ignored();
        self.report.close(Some(FilterConfig {
            ignored_fields,
            ..self.config
        }))
    }

    /// Clusters go by their names' keys everywhere: two alike could not be told apart.
    fn take_name(&mut self, name: &str) {
        let key = hash::cluster_key(name.as_bytes());
        if self.names.insert(key.0, 0).is_some() {
            let place = format!("clusters.{name}");
            let why = "must be unique, but the name stands above";
            self.report.error(&Path::Root(&place), why);
        }
    }
}

impl FilterConfig {
    /// Parses a container from JSON; no bytes at all are an empty configuration.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigErrors> {
        let (mut container, documents) = Container::split(json)?;
        let read = documents.iter().map(|document| container.read(document));
        let read: Vec<Option<ReadCluster>> = read.collect();
        let mut config = container.close()?;
        config.clusters = read.into_iter().flatten().map(|it| it.config).collect();
        config.clusters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(config)
    }
}

/// A container without its clusters, and their texts. Clusters that are no list, or are too many,
/// stay: who reads the container finds fault with them.
fn split(json: &[u8]) -> serde_json::Result<(Value, Vec<&RawValue>)> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let split = reader
        .deserialize_map(Split)
        .and_then(|split| reader.end().map(|()| split));
    match split {
        Ok((root, texts)) if texts.len() <= CLUSTERS_MAX => Ok((Value::Object(root), texts)),
        Err(error) if !error.is_data() => Err(error),
        _ => Ok((serde_json::from_slice(json)?, Vec::new())),
    }
}

/// Splits an object: in one go, because it may be megabytes.
struct Split;

impl<'a> Visitor<'a> for Split {
    type Value = (Map<String, Value>, Vec<&'a RawValue>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut root, mut texts) = (Map::new(), None);
        while let Some(name) = fields.next_key::<String>()? {
            if name == "clusters" {
                texts = fields.next_value()?;
            } else {
                root.insert(name, fields.next_value()?);
            }
        }
        Ok((root, texts.unwrap_or_default()))
    }
}
