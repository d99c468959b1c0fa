//! `/status` and `/v1/clusters`: what is served, and how it is.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Held, Override, Proxy};

/// Everything at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The sidecar's release.
    pub version: String,
    /// The settings' label.
    pub environment: String,
    /// Since its start.
    pub uptime: String,
    /// Where the clusters come from.
    pub registry: Registry,
    /// As they are served.
    pub clusters: Vec<Cluster>,
    /// To whom.
    pub proxies: Vec<Proxy>,
}

/// The registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registry {
    /// Where it is kept, for people.
    pub source: String,
    /// How its store is doing.
    pub store: Store,
    /// What is served, 16 hex digits; absent: nothing yet.
    pub revision: Option<String>,
    /// Why the last reading failed.
    pub error: Option<String>,
    /// Records that are not served as they stand.
    pub rejected: Vec<Rejected>,
}

/// How the registry's store is doing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Store {
    /// `redis`, `kubernetes` or `memory`.
    pub backend: String,
    /// `connected`, `disconnected` or `disabled`.
    pub status: String,
    /// Why the last reading failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why nothing can be written to it now, although it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwritable: Option<String>,
    /// How often all of it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listings: Option<u64>,
    /// How long the last of these readings took, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listing_ms: Option<u64>,
    /// How far its clock is ahead of the sidecar's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Since it was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_read_ago: Option<String>,
    /// A loss that waits for its confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// A record that is not served as it stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejected {
    /// Which.
    pub place: String,
    /// Why.
    pub error: String,
}

/// The clusters alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Clusters {
    /// What is served, 16 hex digits.
    pub revision: Option<String>,
    /// As they are served.
    pub clusters: Vec<Cluster>,
    /// Records that are not served as they stand.
    pub rejected: Vec<Rejected>,
}

/// One cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Of its document.
    pub etag: Option<String>,
    /// As documents have it, with its defaults; null: none.
    pub health_check: Value,
    /// As documents have them, with their defaults; null: none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub limits: Value,
    /// How bodies are read, as documents have it, with its defaults; null: they are not.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub json_rpc: Value,
    /// That of every backend without one of its own; null: none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub rate_limit: Value,
    /// Why its `caFile` cannot be used as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file_error: Option<String>,
    /// Backends that take requests.
    pub total: usize,
    /// Those of them that are healthy.
    pub healthy: usize,
    /// Some are healthy, but no more than half.
    pub half_healthy: bool,
    /// All of them.
    pub backends: Vec<Backend>,
}

/// One backend.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backend {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Its share.
    pub weight: u16,
    /// Serves only when no primary can.
    pub backup: bool,
    /// `Normal`, `Draining` or `Cordoned`.
    pub state: String,
    /// Requests at a time; null: any number.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub max_in_flight: Value,
    /// Its own; null: the cluster's.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub rate_limit: Value,
    /// The verdict of its probes.
    pub healthy: bool,
    /// Probes in a row that failed up to now.
    pub failures: u32,
    /// How one last failed, even if later ones passed.
    pub last_failure_reason: Option<String>,
    /// Since one last ended.
    pub last_check_ago: Option<String>,
    /// The operator's word in force.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Override>,
    /// The one that is to follow.
    #[serde(rename = "nextOverride", skip_serializing_if = "Option::is_none")]
    pub next: Option<Override>,
}

/// One backend, and how far what is said of it has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendReach {
    /// Its cluster.
    pub cluster: String,
    /// Its id.
    pub backend: String,
    /// Whether there is such a backend.
    pub present: bool,
    /// As it is served.
    pub state: Option<String>,
    /// What is served, 16 hex digits.
    pub revision: String,
    /// `Everywhere`, `Behind` or `Unknown`.
    pub reach: String,
    /// Envoys that are known.
    pub proxies: usize,
    /// The node ids of those that do not act on it yet.
    pub behind: Vec<String>,
}
