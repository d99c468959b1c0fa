//! A container of documents: everything that a filter is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cluster::ClusterConfig;
use super::reader::{Object, Path, Report};
use super::{duration, policy, retry};
use crate::base::hash;

/// The number of this schema. A filter that meets a higher one passes unknown fields over. 2: `sticky.path`, `timeouts`. 3: `passive`.
/// 4: what cools down may be retried, `affinity`, `maglevTableSize`, `shuffleShard`, limits. 5: `jsonRpc`.
/// 6: `halfOpen`, `slowStart`. 7: `Tiered`.
pub const SCHEMA: u32 = 7;
/// Most clusters in one container.
pub const CLUSTERS_MAX: usize = 10_000;
/// The header that carries the list, unless the configuration names another: the name of the
/// Endpoint Picker Protocol.
pub const HEADER_DEFAULT: &str = "x-gateway-destination-endpoint";
/// The module's second name, as its root context's: under it, it stands upstream and sees each attempt
/// of the clusters that need that (see [`super::Retry::needs_upstream`]).
pub const UPSTREAM_ROLE: &str = "pointsman-upstream";
/// How long verdicts hold without word from the sidecar.
pub const VERDICT_TTL_DEFAULT: Duration = Duration::from_secs(30);

/// How the filter speaks with the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// The Envoy cluster that leads to it.
    pub cluster: String,
    /// Sent as a bearer token; empty: none is asked for.
    pub token: String,
    /// How long verdicts hold when the sidecar is silent.
    pub verdict_ttl: Duration,
}

/// Everything a filter is told: a container, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterConfig {
    /// 16 hex digits, a hash of the clusters as filters are sent them; empty in a static configuration.
    pub revision: String,
    /// The request header that carries the list.
    pub header: String,
    /// Absent: static mode, no sidecar.
    pub exchange: Option<ExchangeConfig>,
    /// Sorted by name, names unique.
    pub clusters: Vec<ClusterConfig>,
    /// Fields of a newer schema that were passed over.
    pub ignored_fields: u32,
}

impl FilterConfig {
    /// Most attempts a request can have, the first included.
    pub const ATTEMPTS_MAX: u32 = retry::ATTEMPTS_MAX;

    /// An empty configuration: no cluster is known, every request is left to Envoy.
    pub fn empty() -> Self {
        FilterConfig {
            revision: String::new(),
            header: HEADER_DEFAULT.to_owned(),
            exchange: None,
            clusters: Vec::new(),
            ignored_fields: 0,
        }
    }

    /// Clusters with the revision that they give. The exchange's settings are no part of it: sidecars
    /// with another token or TTL must agree on what they serve.
    pub fn new(clusters: Vec<ClusterConfig>, exchange: Option<ExchangeConfig>) -> Self {
        let clusters: BTreeMap<String, ClusterConfig> = clusters
            .into_iter()
            .map(|cluster| (cluster.name.clone(), cluster))
            .collect();
        let clusters: Vec<ClusterConfig> = clusters.into_values().collect();
        let mut config = FilterConfig {
            clusters,
            ..FilterConfig::empty()
        };
        config.revision = hash::hex(hash::text_key(config.to_json().as_bytes()));
        config.exchange = exchange;
        config
    }

    /// Reads all but the clusters.
    pub(super) fn read(value: &Value, report: &Report) -> Option<Self> {
        let root = Path::Root("");
        let object = Object::of(value, &root, report)?;
        if object
            .get("schema")
            .and_then(Value::as_u64)
            .is_none_or(|schema| schema < 1)
        {
            report.error(
                &object.at("schema"),
                format!("is required and must be 1 to {SCHEMA}"),
            );
        }
        let header = object.text("header", 128).unwrap_or(HEADER_DEFAULT);
        if !policy::is_token(header) {
            report.error(&object.at("header"), "must be a header's name");
        }
        let exchange = object
            .get("exchange")
            .and_then(|value| ExchangeConfig::read(value, &object.at("exchange"), report));
        // Those of a list that fits were taken out.
        if !object.list("clusters", CLUSTERS_MAX).is_empty() {
            report.error(&object.at("clusters"), "must stand once");
        }
        Some(FilterConfig {
            revision: object.text("revision", 64).unwrap_or("").to_owned(),
            header: header.to_ascii_lowercase(),
            exchange,
            clusters: Vec::new(),
            ignored_fields: 0,
        })
    }

    /// The container in its one canonical form, as filters are sent it: without the probes.
    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        let schemas = self.clusters.iter().map(ClusterConfig::schema);
        policy::insert(&mut map, "schema", schemas.max().unwrap_or(1));
        if !self.revision.is_empty() {
            policy::insert(&mut map, "revision", self.revision.clone());
        }
        if self.header != HEADER_DEFAULT {
            policy::insert(&mut map, "header", self.header.clone());
        }
        if let Some(exchange) = &self.exchange {
            policy::insert(&mut map, "exchange", exchange.write());
        }
        let clusters = self.clusters.iter().map(ClusterConfig::for_filters);
        let clusters: Vec<Value> = clusters.map(Value::Object).collect();
        policy::insert(&mut map, "clusters", clusters);
        Value::Object(map).to_string()
    }
}

impl ExchangeConfig {
    fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let cluster = object.required_text("cluster", 253);
        let range = (Duration::from_secs(1), Duration::from_secs(86_400));
        Some(ExchangeConfig {
            token: object.text("token", 256).unwrap_or("").to_owned(),
            verdict_ttl: object.duration("verdictTtl", VERDICT_TTL_DEFAULT, range),
            // Last: a field that nobody asks for is not known.
            cluster: cluster?.to_owned(),
        })
    }

    fn write(&self) -> Value {
        let ttl = duration::print(self.verdict_ttl);
        json!({"cluster": self.cluster, "token": self.token, "verdictTtl": ttl})
    }
}
