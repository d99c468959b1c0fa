//! The registry → what Envoy reads: clusters, endpoints and the filter's configuration.

mod cluster;
mod endpoints;
mod filter;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;
use pointsman_filter::config::{ClusterConfig, FilterConfig};

use super::snapshot::{Name, Resource, Shelf, Snapshot};
use crate::trust::Trust;

pub use filter::{Code, filter};

/// The name of the filter's configuration, and of its root context and its VM.
pub const FILTER_NAME: &str = "pointsman";

/// A cluster as it is served: what the registry says, and the addresses on their way out.
pub struct Served<'a> {
    /// The registry's document.
    pub config: &'a ClusterConfig,
    /// Addresses that the registry has no more and that some worker may still name.
    pub leaving: BTreeSet<SocketAddr>,
}

/// Everything that is served: `clusters` and whom they trust to Envoy, `config` to the filters.
pub fn snapshot<'a>(
    clusters: impl Iterator<Item = Served<'a>>,
    trust: &Trust,
    config: &FilterConfig,
    code: &Code,
) -> Snapshot {
    let mut cds = BTreeMap::new();
    let mut sds = BTreeMap::new();
    let mut eds = BTreeMap::new();
    for served in clusters {
        let name = Name::from(served.config.name.as_str());
        let cluster = Resource::new(pack_any(cluster::cluster(served.config)));
        let endpoints = pack_any(endpoints::endpoints(served.config, &served.leaving));
        cds.insert(Arc::clone(&name), Arc::new(cluster));
        if let Some((path, secret)) = secret::of(served.config, trust) {
            let secret = || Arc::new(Resource::new(pack_any(secret)));
            sds.entry(Name::from(path)).or_insert_with(secret);
        }
        eds.insert(name, Arc::new(Resource::new(endpoints)));
    }
    let roles = [filter(config, code), filter::upstream(code)];
    let ecds = roles.map(|role| {
        let name = Name::from(role.name.as_str());
        (name, Arc::new(Resource::new(pack_any(role))))
    });
    Snapshot {
        clusters: Shelf::new(cds),
        secrets: Shelf::new(sds),
        endpoints: Shelf::new(eds),
        filters: Shelf::new(BTreeMap::from(ecds)),
    }
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[cfg(test)]
mod tests;
