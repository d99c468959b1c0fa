//! The clusters of a container as texts, of which only those are read that nobody has read before. Those that
//! stand where they stood are not even looked through: their length and their hash say so.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::cluster::{self, ClusterConfig};
use super::container::{CLUSTERS_MAX, FilterConfig, SCHEMA};
use super::reader::{ConfigError, ConfigErrors, Path, Report};
use crate::base::hash::{self, KeyMap};

/// A cluster's document, as it stands in a container.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    text: &'a [u8],
    hash: u64,
    index: usize,
}

impl<'a> Document<'a> {
    fn new(text: &'a [u8], index: usize) -> Self {
        let hash = hash::text_key(text);
        Document { text, hash, index }
    }
}

/// What names a document: a hash of its text, the text's length, and the schema by which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentKey {
    /// The 64-bit hash.
    pub hash: u64,
    length: usize,
    schema: u64,
}

impl DocumentKey {
    /// The document, where this text begins with it.
    fn begins<'a>(&self, text: &'a [u8], index: usize) -> Option<Document<'a>> {
        let (text, rest) = text.split_at_checked(self.length)?;
        // Where something else stands, hardly ever is this its end.
        let ends = matches!(rest.first(), Some(b',' | b']'));
        let document = ends.then(|| Document::new(text, index))?;
        (document.hash == self.hash).then_some(document)
    }
}

/// The documents of a container that was read before, in its order.
#[derive(Debug, Default)]
pub struct KnownDocuments {
    keys: Vec<DocumentKey>,
    /// Places by the documents' hashes.
    places: KeyMap<u32>,
}

impl KnownDocuments {
    /// Those that these name.
    pub fn new(keys: Vec<DocumentKey>) -> Self {
        let places = keys.iter().map(|key| key.hash).zip(0..).collect();
        KnownDocuments { keys, places }
    }

    /// Where one of this hash stands, and what names it.
    pub fn find(&self, hash: u64) -> Option<(usize, DocumentKey)> {
        let place = usize::try_from(*self.places.get(&hash)?).ok()?;
        Some((place, *self.keys.get(place)?))
    }
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
    /// Reads all of a container but its clusters, of which some are `known`. No bytes at all are an
    /// empty one.
    pub fn split<'a>(
        json: &'a [u8],
        known: &KnownDocuments,
    ) -> Result<(Self, Vec<Document<'a>>), ConfigErrors> {
        let (root, documents) = match json.trim_ascii() {
            b"" => (json!({"schema": SCHEMA}), Vec::new()),
            json => split(json, known).map_err(|error| {
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
        Ok((container, documents))
    }

    /// What names one of its documents.
    pub fn key(&self, document: &Document<'_>) -> DocumentKey {
        DocumentKey {
            hash: document.hash,
            length: document.text.len(),
            schema: self.schema,
        }
    }

    /// Reads a document; `None` where something is wrong with it, which `close` tells.
    pub fn read(&mut self, document: &Document<'_>) -> Option<ReadCluster> {
        let Document { text, index, .. } = *document;
        let value: Value = match serde_json::from_slice(text) {
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
        let (mut container, documents) = Container::split(json, &KnownDocuments::default())?;
        let read = documents.iter().map(|document| container.read(document));
        let read: Vec<Option<ReadCluster>> = read.collect();
        let mut config = container.close()?;
        config.clusters = read.into_iter().flatten().map(|it| it.config).collect();
        config.clusters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(config)
    }
}

/// A container without its clusters, and these. Clusters that are no list, or are too many, stay: who
/// reads the container finds fault with them.
fn split<'a>(
    json: &'a [u8],
    known: &KnownDocuments,
) -> serde_json::Result<(Value, Vec<Document<'a>>)> {
    if let Some(split) = split_canonical(json, known) {
        return Ok(split);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let split = reader
        .deserialize_map(Split)
        .and_then(|split| reader.end().map(|()| split));
    let (root, list) = match split {
        Ok((root, list)) => (root, list.map_or("[]", RawValue::get)),
        Err(error) if error.is_data() => (Map::new(), ""),
        Err(error) => return Err(error),
    };
    match documents(list.as_bytes(), known) {
        Some((documents, _)) => Ok((Value::Object(root), documents)),
        None => Ok((serde_json::from_slice(json)?, Vec::new())),
    }
}

/// The same of the canonical form alone, in which the clusters stand first: nobody looks for their end.
fn split_canonical<'a>(
    json: &'a [u8],
    known: &KnownDocuments,
) -> Option<(Value, Vec<Document<'a>>)> {
    let list = json.strip_prefix(br#"{"clusters":"#)?;
    let (documents, rest) = documents(list, known)?;
    let root = [&br#"{"clusters":[]"#[..], rest].concat();
    Some((serde_json::from_slice(&root).ok()?, documents))
}

/// The documents of the list with which a text begins, and what stands behind it. Where a document is not
/// as it was, the next one may be; where one is new or gone, those behind it are found again.
fn documents<'a>(text: &'a [u8], known: &KnownDocuments) -> Option<(Vec<Document<'a>>, &'a [u8])> {
    let mut rest = text.strip_prefix(b"[")?.trim_ascii_start();
    let mut documents = Vec::with_capacity(known.keys.len());
    if let Some(behind) = rest.strip_prefix(b"]") {
        return Some((documents, behind));
    }
    let mut place = 0usize;
    loop {
        let index = documents.len();
        let expected = known.keys.get(place).and_then(|it| it.begins(rest, index));
        let document = match expected {
            Some(document) => document,
            None => {
                let mut reader = serde_json::Deserializer::from_slice(rest);
                let text = <&RawValue>::deserialize(&mut reader).ok()?;
                let document = Document::new(text.get().as_bytes(), index);
                place = known.find(document.hash).map_or(place, |found| found.0);
                document
            }
        };
        place = place.saturating_add(1);
        rest = rest.get(document.text.len()..)?.trim_ascii_start();
        documents.push(document);
        let (separator, behind) = rest.split_first()?;
        match separator {
            b',' => rest = behind.trim_ascii_start(),
            b']' => return (documents.len() <= CLUSTERS_MAX).then_some((documents, behind)),
            _ => return None,
        }
    }
}

/// Splits an object: in one go, because it may be megabytes.
struct Split;

impl<'a> Visitor<'a> for Split {
    type Value = (Map<String, Value>, Option<&'a RawValue>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut root, mut list) = (Map::new(), None);
        while let Some(name) = fields.next_key::<String>()? {
            if name == "clusters" {
                if list.replace(fields.next_value()?).is_some() {
                    return Err(A::Error::duplicate_field("clusters"));
                }
            } else {
                root.insert(name, fields.next_value()?);
            }
        }
        Ok((root, list))
    }
}
