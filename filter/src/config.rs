//! The registry's schema and its one parser: documents in, [`ClusterConfig`]s out.
//!
//! The same document stands in Redis, in a custom resource, in the demo file and in a static
//! `envoy.yaml`. A container `{schema: 1, clusters: […]}` holds several; the sidecar adds the
//! `revision` and the exchange's settings before it sends the container to the filters.

mod affinity;
mod averaging;
mod backend;
mod balancing;
mod cluster;
mod code;
mod container;
mod documents;
pub mod duration;
mod failure;
mod health;
mod json_rpc;
mod limits;
mod passive;
mod policy;
mod reader;
mod retry;
mod slow_start;
mod timeouts;

pub use affinity::{Affinity, ShuffleShard, WhenExhausted};
pub use averaging::Averaging;
pub use backend::{BackendConfig, State, host_address};
pub use balancing::{LoadBalancing, Metric, Policy};
pub use cluster::{BACKENDS_MAX, ClusterConfig, is_cluster_name};
pub use code::Code;
pub use container::{
    CLUSTERS_MAX, ExchangeConfig, FilterConfig, HEADER_DEFAULT, SCHEMA, UPSTREAM_ROLE,
    VERDICT_TTL_DEFAULT,
};
pub use documents::{Container, Document, DocumentKey, KnownDocuments, ReadCluster};
pub use failure::Failure;
pub use health::{HealthCheck, HttpProbe, Probe, Tls};
pub use json_rpc::{JsonRpc, METHOD_BATCH, METHOD_OTHER, METHOD_UNKNOWN};
pub use limits::{COUNT_MAX, Limits, RATE_LIMITS_MAX, RateLimit};
pub use passive::{Cooldown, Passive};
pub use policy::{Refusal, SameSite, Sticky, WhenAllUnhealthy};
pub use reader::{ConfigError, ConfigErrors};
pub use retry::{Backoff, Retry};
pub use slow_start::SlowStart;
pub use timeouts::Timeouts;

#[cfg(test)]
mod tests;
