//! The two messages of the exchange between the filters of one Envoy and the sidecar.
//!
//! A filter posts what its workers run and which verdicts it has; the sidecar answers at once when
//! it has newer ones, otherwise within a second. A verdict set is named by its [`Version`]; where
//! the filter's version is not one the sidecar can continue from, the answer is the full set.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::base::hash::{self, BackendKey};
use crate::base::time::WallTime;

/// Where filters post.
pub const PATH: &str = "/v1/exchange";
/// The content type of both messages; an answer with another one is not an answer.
pub const CONTENT_TYPE: &str = "application/vnd.pointsman.exchange+json";
/// Longest message either side reads, bytes.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Longest node id and longest refusal reason, bytes.
pub const TEXT_MAX: usize = 1024;
/// Most revisions one Envoy's workers can be said to run at a time.
pub const REVISIONS_MAX: usize = 16;

/// Names one state of the verdicts: which sidecar incarnation, its how-manieth change, and the
/// revision of the registry it speaks of. All zero: no verdicts yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Drawn by the sidecar at its start.
    pub epoch: u64,
    /// Counts changes within the epoch.
    pub counter: u64,
    /// The revision's hash; see [`crate::config::FilterConfig::revision`].
    pub revision: u64,
}

/// A configuration that a filter rejected, and why; a NACK itself carries no reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its revision; 0 where it could not be read.
    pub revision: u64,
    /// The parser's words.
    pub reason: String,
}

/// What a filter posts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Envoy's node id.
    pub node: String,
    /// Drawn once by each process of Envoy: tells two that have one node id apart, and one from the
    /// one before it. `None`: the filter is older than the field.
    pub process: Option<u64>,
    /// When it was written, by the clock of Envoy's host: a post may overtake the one before it.
    /// `None`: the filter is older than the field.
    pub at: Option<WallTime>,
    /// Workers that serve requests and whose heartbeat is fresh.
    pub workers: u32,
    /// The distinct revisions that these workers run.
    pub revisions: Vec<u64>,
    /// The last configuration that was rejected, if any.
    pub rejected: Option<Rejection>,
    /// The verdicts this Envoy has.
    pub have: Version,
    /// Whom its workers hold to be unhealthy; absent unless an answer before asked for it.
    pub unhealthy: Option<Vec<ClusterVerdicts>>,
}

/// The verdicts on one cluster's backends, by [`hash::backend_key`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterVerdicts {
    /// The cluster's name.
    pub name: String,
    /// These are unhealthy.
    pub unhealthy: Vec<BackendKey>,
    /// These became healthy; empty in a full set, where absence says so, and in a post.
    pub healthy: Vec<BackendKey>,
}

/// What the sidecar answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What the receiver has once it has applied this.
    pub version: Version,
    /// Whether the clusters are all that is unhealthy, or only what changed.
    pub full: bool,
    /// Empty where nothing is news.
    pub clusters: Vec<ClusterVerdicts>,
    /// The sidecar has just started: the next post is to say whom the workers hold to be unhealthy.
    /// The rest says nothing then, and is what a filter older than the field takes for no news.
    pub hand_back: bool,
}

/// A message that cannot be read: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageError(String);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MessageError {}

impl Request {
    /// The message as it is sent.
    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        map.insert("node".to_owned(), self.node.clone().into());
        if let Some(process) = self.process {
            map.insert("process".to_owned(), hash::hex(process).into());
        }
        if let Some(at) = self.at {
            map.insert("at".to_owned(), at.ns().into());
        }
        map.insert("workers".to_owned(), self.workers.into());
        map.insert(
            "revisions".to_owned(),
            hex_list(self.revisions.iter().copied()),
        );
        map.insert("have".to_owned(), self.have.write());
        if let Some(rejected) = &self.rejected {
            let revision = hash::hex(rejected.revision);
            let value = json!({"revision": revision, "reason": rejected.reason});
            map.insert("refused".to_owned(), value);
        }
        if let Some(unhealthy) = &self.unhealthy {
            map.insert("unhealthy".to_owned(), write_clusters(unhealthy));
        }
        Value::Object(map).to_string()
    }

    /// Reads the message; fields it does not know are left to newer readers.
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let value = read_json(json)?;
        let workers = value.get("workers").and_then(Value::as_u64).unwrap_or(0);
        let rejected = value.get("refused").map(|refused| {
            let revision = key_of(refused.get("revision"), "refused.revision")?;
            let reason = text_of(refused.get("reason"), "refused.reason")?;
            Ok(Rejection { revision, reason })
        });
        let process = value
            .get("process")
            .map(|process| key_of(Some(process), "process"));
        let revisions = keys_of(value.get("revisions"), "revisions")?;
        if revisions.len() > REVISIONS_MAX {
            let why = format!("revisions: must have at most {REVISIONS_MAX} elements");
            return Err(MessageError(why));
        }
        Ok(Request {
            node: text_of(value.get("node"), "node")?,
            process: process.transpose()?,
            at: value
                .get("at")
                .and_then(Value::as_u64)
                .map(WallTime::from_ns),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            revisions,
            rejected: rejected.transpose()?,
            have: Version::read(value.get("have"))?,
            unhealthy: read_clusters(value.get("unhealthy"), "unhealthy")?,
        })
    }
}

impl Answer {
    /// The message as it is sent.
    pub fn to_json(&self) -> String {
        let clusters = write_clusters(&self.clusters);
        let mut answer =
            json!({"version": self.version.write(), "full": self.full, "clusters": clusters});
        if let (true, Some(answer)) = (self.hand_back, answer.as_object_mut()) {
            answer.insert("handBack".to_owned(), true.into());
        }
        answer.to_string()
    }

    /// Reads the message; fields it does not know are left to newer readers.
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        let value = read_json(json)?;
        let Some(full) = value.get("full").and_then(Value::as_bool) else {
            return Err(MessageError("full: must be true or false".to_owned()));
        };
        let Some(clusters) = read_clusters(value.get("clusters"), "clusters")? else {
            return Err(MessageError("clusters: must be a list".to_owned()));
        };
        let hand_back = value.get("handBack").and_then(Value::as_bool);
        Ok(Answer {
            version: Version::read(value.get("version"))?,
            full,
            clusters,
            hand_back: hand_back.unwrap_or(false),
        })
    }
}

impl Version {
    fn write(self) -> Value {
        let (epoch, revision) = (hash::hex(self.epoch), hash::hex(self.revision));
        json!({"epoch": epoch, "counter": self.counter, "revision": revision})
    }

    fn read(value: Option<&Value>) -> Result<Self, MessageError> {
        let counter = value.and_then(|v| v.get("counter")).and_then(Value::as_u64);
        Ok(Version {
            epoch: key_of(value.and_then(|v| v.get("epoch")), "version.epoch")?,
            counter: counter
                .ok_or_else(|| MessageError("version.counter: must be a number".to_owned()))?,
            revision: key_of(value.and_then(|v| v.get("revision")), "version.revision")?,
        })
    }
}

fn read_json(json: &[u8]) -> Result<Value, MessageError> {
    if json.len() > MESSAGE_MAX {
        return Err(MessageError(format!(
            "must be at most {MESSAGE_MAX} bytes long"
        )));
    }
    serde_json::from_slice(json).map_err(|error| MessageError(format!("must be JSON: {error}")))
}

fn hex_list(keys: impl Iterator<Item = u64>) -> Value {
    keys.map(|key| Value::from(hash::hex(key))).collect()
}

fn key_of(value: Option<&Value>, path: &str) -> Result<u64, MessageError> {
    let key = value.and_then(Value::as_str).and_then(hash::parse_hex);
    key.ok_or_else(|| MessageError(format!("{path}: must be 16 hex digits")))
}

/// Of the verdicts on these clusters as many as a post has room for.
pub fn fitting(clusters: impl Iterator<Item = ClusterVerdicts>) -> Vec<ClusterVerdicts> {
    let mut room = MESSAGE_MAX.div_euclid(2);
    let fits = |cluster: &ClusterVerdicts| {
        // A key is 16 digits, two quotes and a comma; a cluster has a name and three more.
        let keys = cluster.unhealthy.len().saturating_mul(19);
        let size = cluster.name.len().saturating_add(keys).saturating_add(64);
        let left = room.checked_sub(size);
        room = left.unwrap_or(room);
        left.is_some()
    };
    clusters.filter(fits).collect()
}

fn write_clusters(clusters: &[ClusterVerdicts]) -> Value {
    let cluster = |cluster: &ClusterVerdicts| {
        let list = |keys: &[BackendKey]| hex_list(keys.iter().map(|key| key.0));
        let (unhealthy, healthy) = (list(&cluster.unhealthy), list(&cluster.healthy));
        json!({"name": cluster.name, "unhealthy": unhealthy, "healthy": healthy})
    };
    clusters.iter().map(cluster).collect()
}

/// `None`: there is no list.
fn read_clusters(
    value: Option<&Value>,
    path: &str,
) -> Result<Option<Vec<ClusterVerdicts>>, MessageError> {
    let Some(items) = value.and_then(Value::as_array) else {
        return Ok(None);
    };
    let mut clusters = Vec::with_capacity(items.len());
    for item in items {
        let keys = |name: &str| -> Result<Vec<BackendKey>, MessageError> {
            let keys = keys_of(item.get(name), &format!("{path}[].{name}"))?;
            Ok(keys.into_iter().map(BackendKey).collect())
        };
        clusters.push(ClusterVerdicts {
            name: text_of(item.get("name"), &format!("{path}[].name"))?,
            unhealthy: keys("unhealthy")?,
            healthy: keys("healthy")?,
        });
    }
    Ok(Some(clusters))
}

fn keys_of(value: Option<&Value>, path: &str) -> Result<Vec<u64>, MessageError> {
    let items = value.and_then(Value::as_array);
    let items = items.ok_or_else(|| MessageError(format!("{path}: must be a list")))?;
    items.iter().map(|item| key_of(Some(item), path)).collect()
}

fn text_of(value: Option<&Value>, path: &str) -> Result<String, MessageError> {
    let text = value
        .and_then(Value::as_str)
        .filter(|text| text.len() <= TEXT_MAX);
    let why = || {
        MessageError(format!(
            "{path}: must be a string of at most {TEXT_MAX} bytes"
        ))
    };
    text.map(str::to_owned).ok_or_else(why)
}

#[cfg(test)]
mod tests;
