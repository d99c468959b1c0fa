//! Small configurations for the tests of this stage.

use std::time::Duration;

use pointsman_filter::config::{ClusterConfig, FilterConfig, HealthCheck};
use serde_json::{Value, json};

/// The default health check, but probing by TCP.
pub fn health_check() -> HealthCheck {
    let document = json!({"name": "a", "healthCheck": {"tcp": {}}});
    let cluster = ClusterConfig::parse(&document).expect("a good document");
    cluster.health_check.expect("a health check")
}

/// A configuration of these clusters.
pub fn config(clusters: Vec<Value>) -> FilterConfig {
    let parse = |document: &Value| ClusterConfig::parse(document).expect("a good document");
    FilterConfig::new(clusters.iter().map(parse).collect(), None)
}

/// A cluster `orders` with a 10 s TCP check and these backends, each `{id, address, …}`.
pub fn orders(backends: Value) -> Value {
    json!({"name": "orders", "healthCheck": {"tcp": {}}, "backends": backends})
}

/// A backend's record.
pub fn backend(id: &str, address: &str) -> Value {
    json!({"id": id, "address": address})
}

/// A number of seconds.
pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
