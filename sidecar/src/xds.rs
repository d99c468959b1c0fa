//! Stage 3: what Envoy is told, in which order, and what it said to it.

pub mod ads;
pub mod delivery;
pub mod resources;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod views;
mod wire;

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The proxies that are connected, by stream: a number that is never used again.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Every open stream.
    pub streams: BTreeMap<u64, Proxy>,
}

impl Proxies {
    /// How many streams each node has open.
    pub fn streams_by_node(&self) -> BTreeMap<&str, usize> {
        let mut nodes = BTreeMap::new();
        for proxy in self.streams.values() {
            *nodes.entry(proxy.node.as_str()).or_default() += 1;
        }
        nodes
    }
}

/// One stream of one proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Envoy's node id.
    pub node: String,
    /// Since when.
    pub connected: Instant,
    /// What it has of each type.
    pub types: BTreeMap<Kind, Progress>,
}

/// The types of resource that are served, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// CDS.
    Clusters,
    /// SDS.
    Secrets,
    /// EDS.
    Endpoints,
    /// ECDS.
    Filters,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 4] = [
        Kind::Clusters,
        Kind::Secrets,
        Kind::Endpoints,
        Kind::Filters,
    ];

    /// The type's name on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Clusters => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Secrets => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Filters => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }

    /// The kind of a type on the wire; `None`: it is not served.
    pub fn of_type(type_url: &str) -> Option<Self> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Clusters => "clusters",
            Kind::Secrets => "secrets",
            Kind::Endpoints => "endpoints",
            Kind::Filters => "filters",
        }
    }
}

/// How far a proxy is with one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The version of the last answer it accepted.
    pub acked: Option<String>,
    /// An answer that it refused; gone once it accepts a later one.
    pub nacked: Option<Nack>,
    /// Answers it has not judged yet.
    pub pending: usize,
}

/// An answer that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The filter that it was about; of other kinds an answer is about many.
    pub resource: Option<snapshot::Name>,
    /// The version of that answer.
    pub version: String,
    /// Envoy's words.
    pub error: String,
}
