//! `/v1/proxies`, also a part of `/status`: the Envoys that report, that are connected, or both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    /// By node id.
    pub proxies: Vec<Proxy>,
}

/// The Envoys that say they are one node: one, unless its id is doubled or it was just started again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// The node id.
    pub node: String,
    /// Whether several Envoys that run at the same time say it is theirs.
    pub doubled: bool,
    /// Workers of all its processes that serve requests; absent: none has reported.
    pub workers: Option<u32>,
    /// The distinct revisions that these run.
    pub revisions: Option<Vec<String>>,
    /// The last configuration that a filter refused.
    pub refused: Option<Refused>,
    /// How long ago the process that is silent for longest reported.
    pub last_report_ago: Option<String>,
    /// What each process reports.
    pub processes: Vec<Process>,
    /// Its xDS streams.
    pub streams: Vec<Stream>,
}

/// What one Envoy process reports.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// The number that it has drawn, 16 hex digits; absent: its filter is of an older release.
    pub process: Option<String>,
    /// Workers that serve requests.
    pub workers: u32,
    /// The distinct revisions that these run.
    pub revisions: Vec<String>,
    /// The last configuration that its filter refused.
    pub refused: Option<Refused>,
    /// How long ago it reported.
    pub last_report_ago: String,
}

/// A configuration that a filter refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Refused {
    /// Its revision.
    pub revision: String,
    /// The parser's words.
    pub reason: String,
}

/// One xDS stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    /// For how long it has been open.
    pub connected_for: String,
    /// By the type of resource.
    pub types: BTreeMap<String, Progress>,
}

/// How far a stream is with one type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The version of the last answer it accepted.
    pub acked: Option<String>,
    /// An answer that it refused; gone once it accepts a later one.
    pub nacked: Option<Nack>,
    /// Answers it has not judged yet.
    pub pending: usize,
}

/// An answer that a proxy refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nack {
    /// The filter that it was about; absent: the answer was about all that had changed.
    pub resource: Option<String>,
    /// The version of that answer.
    pub version: String,
    /// Envoy's words.
    pub error: String,
}
