//! The registry's schema and its one parser: documents in, [`ClusterConfig`]s out.
//!
//! The same document stands in Redis, in a custom resource, in the demo file and in a static
//! `envoy.yaml`. A container `{schema: 1, clusters: […]}` holds several; the sidecar adds the
//! `revision` and the exchange's settings before it sends the container to the filters.

mod backend;
mod cluster;
mod container;
mod documents;
pub mod duration;
mod health;
mod passive;
mod policy;
mod reader;
mod retry;
mod timeouts;

pub use backend::{BackendConfig, State, host_address};
pub use cluster::{BACKENDS_MAX, ClusterConfig, is_cluster_name};
pub use container::{
    CLUSTERS_MAX, ExchangeConfig, FilterConfig, HEADER_DEFAULT, SCHEMA, VERDICT_TTL_DEFAULT,
};
pub use documents::{Container, Document, DocumentKey, ReadCluster};
pub use health::{HealthCheck, HttpProbe, Probe, Tls};
pub use passive::{Cooldown, Passive};
pub use policy::{LoadBalancing, Metric, Policy, Refusal, SameSite, Sticky, WhenAllUnhealthy};
pub use reader::{ConfigError, ConfigErrors};
pub use retry::{Backoff, Retry, RetryOn};
pub use timeouts::Timeouts;

#[cfg(test)]
mod tests;
