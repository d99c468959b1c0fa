//! What the sidecar writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

/// What became of a BackendCluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BackendClusterStatus {
    /// The generation that the rest is said of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The Envoy cluster it is served as; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its backends, counted.
    #[serde(default)]
    pub backends: Counts,
    /// The first of the backends that are not healthy or not Normal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impaired: Vec<Impaired>,
}

/// Backends, counted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// All of them.
    pub total: i32,
    /// Those that came from Services.
    pub from_services: i32,
    /// Those that take requests.
    pub normal: i32,
    /// Those that take requests and are healthy.
    pub healthy: i32,
}

/// A backend that is not healthy or not Normal.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Impaired {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Normal, Draining or Cordoned.
    pub state: String,
    /// The verdict of its probes; true where nothing is probed.
    pub healthy: bool,
    /// How a probe last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
