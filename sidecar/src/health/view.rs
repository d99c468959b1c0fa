//! What the probes found, as pages, metrics and statuses read it: a picture that nothing changes, so
//! that who builds a page of it keeps nobody waiting.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::fleet::exchange::Version;

use crate::model::outcome::Failure;

/// All clusters at one moment.
#[derive(Debug, Clone, Default)]
pub struct HealthView {
    /// The verdicts that it shows.
    pub version: Version,
    pub(super) clusters: BTreeMap<Arc<str>, Arc<ClusterHealth>>,
}

/// A cluster and its backends.
#[derive(Debug)]
pub struct ClusterHealth {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it has a health check.
    pub probed: bool,
    /// Backends that take requests.
    pub total: usize,
    /// Those of them that are healthy.
    pub healthy: usize,
    /// Some are healthy, but no more than half.
    pub half_healthy: bool,
    pub(super) targets: BTreeMap<SocketAddr, TargetHealth>,
}

/// The backends at one address.
#[derive(Debug)]
pub(super) struct TargetHealth {
    pub health: BackendHealth,
    /// Those that take requests.
    pub ids: Vec<Arc<str>>,
}

/// What is known of the backends at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendHealth {
    /// The verdict.
    pub healthy: bool,
    /// How many probes in a row failed up to now.
    pub failures: u32,
    /// How a probe last failed, even if later ones passed.
    pub last_failure: Option<Failure>,
    /// When a probe last ended; `None`: not yet.
    pub last_check: Option<Duration>,
}

/// A backend that is probed.
#[derive(Debug, Clone, Copy)]
pub struct BackendView<'a> {
    /// Its cluster.
    pub cluster: &'a Arc<str>,
    /// Its id.
    pub id: &'a Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The verdict.
    pub healthy: bool,
}

impl HealthView {
    /// The clusters, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterHealth> {
        self.clusters.values().map(Arc::as_ref)
    }

    /// One cluster.
    pub fn cluster(&self, name: &str) -> Option<&ClusterHealth> {
        self.clusters.get(name).map(Arc::as_ref)
    }

    /// What is known of the backends of a cluster at an address; `None` where nothing is probed.
    pub fn backend(&self, cluster: &str, address: SocketAddr) -> Option<BackendHealth> {
        let target = self.cluster(cluster)?.targets.get(&address)?;
        Some(target.health)
    }

    /// The backends that are probed.
    pub fn backends(&self) -> impl Iterator<Item = BackendView<'_>> {
        self.clusters().flat_map(|cluster| {
            cluster.targets.iter().flat_map(|(address, target)| {
                target.ids.iter().map(|id| BackendView {
                    cluster: &cluster.name,
                    id,
                    address: *address,
                    healthy: target.health.healthy,
                })
            })
        })
    }
}
