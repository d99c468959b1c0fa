//! What is probed: one address of one cluster, whose verdict holds for every backend there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::config::{BackendConfig, ClusterConfig, HealthCheck, Probe, State, Tls};

use super::thresholds::Thresholds;
use crate::model::outcome::{Failure, Outcome};

/// Names one incarnation of a target, never used again: a target that was removed, or that is
/// asked something else now, has another number, so a late result finds nobody (HC-16).
pub type TargetNumber = u64;

/// What the probes of a cluster do.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// HTTP or TCP.
    pub probe: Probe,
    /// The port that is probed; 0: the backend's own.
    pub port: u16,
    /// The deadline of a probe.
    pub timeout: Duration,
    /// Speak HTTP/2 at once.
    pub http2: bool,
    /// Absent: plain.
    pub tls: Option<Tls>,
}

/// One probe to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whom its result is for.
    pub target: TargetNumber,
    /// The target's cluster.
    pub cluster: Arc<str>,
    /// Where to connect.
    pub address: SocketAddr,
    /// What to do there.
    pub plan: Arc<Plan>,
    /// Whole rounds that went by since it was due, because the prober was full.
    pub missed: u64,
}

/// A backend at a target's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub id: Arc<str>,
    pub key: BackendKey,
    pub normal: bool,
}

/// What was last seen of a target.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// When a probe last ended.
    pub checked: Option<Duration>,
    /// How a probe last failed, even if later ones passed.
    pub failure: Option<Failure>,
}

#[derive(Debug)]
pub(super) struct Target {
    pub cluster: Arc<str>,
    pub address: SocketAddr,
    pub members: Vec<Member>,
    pub thresholds: Thresholds,
    /// Random, and the same for the target's whole life: places it in time.
    pub draw: u64,
    /// When the probe that is under way began.
    pub started: Option<Duration>,
    /// Whether the last probe could not be made.
    pub obstructed: bool,
    pub seen: Seen,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub name: Arc<str>,
    /// Absent: nothing is probed.
    pub check: Option<(HealthCheck, Arc<Plan>)>,
    pub targets: BTreeMap<SocketAddr, TargetNumber>,
    /// Backends that take requests.
    pub total: usize,
    /// Those of them that are healthy.
    pub healthy: usize,
    /// Targets whose last probe could not be made.
    pub obstructed: usize,
    /// Targets whose probe is under way.
    pub under_way: usize,
}

impl Plan {
    /// The plan of a cluster with this check.
    pub fn of(cluster: &ClusterConfig, check: &HealthCheck) -> Self {
        Plan {
            probe: check.probe.clone(),
            port: check.port,
            timeout: check.timeout,
            http2: cluster.http2,
            tls: cluster.tls.clone(),
        }
    }
}

impl Cluster {
    /// Notes that a target's probe could not be made; returns whether it is the only such target,
    /// so that a lasting obstacle is said once and not for every probe.
    pub fn obstruct(&mut self, target: &mut Target) -> bool {
        let first = self.obstructed == 0;
        self.obstructed += usize::from(!target.obstructed);
        target.obstructed = true;
        first
    }

    /// Notes that a target's probe was made.
    pub fn clear(&mut self, target: &mut Target) {
        self.obstructed -= usize::from(target.obstructed);
        target.obstructed = false;
    }

    /// Some of its backends are healthy, but no more than half (HC-14).
    pub fn half_healthy(&self) -> bool {
        0 < self.healthy && self.healthy * 2 <= self.total
    }
}

impl Target {
    /// Whether it is probed at all: some backend there takes requests (HC-10).
    pub fn probed(&self) -> bool {
        self.members.iter().any(|member| member.normal)
    }

    pub fn normal_members(&self) -> usize {
        self.members.iter().filter(|member| member.normal).count()
    }

    /// Keeps what a probe saw.
    pub fn note(&mut self, outcome: Outcome, now: Duration) {
        self.started = None;
        self.seen.checked = Some(now);
        if let Outcome::Failed(failure) = outcome {
            self.seen.failure = Some(failure);
        }
    }
}

/// Whether two sets of backends have an identity in common, the pair of id and address.
pub(super) fn share_identity(some: &[Member], others: &[Member]) -> bool {
    some.iter()
        .any(|one| others.iter().any(|other| one.key == other.key))
}

/// A cluster's backends by address.
pub(super) fn by_address(backends: &[BackendConfig]) -> BTreeMap<SocketAddr, Vec<Member>> {
    let mut members: BTreeMap<SocketAddr, Vec<Member>> = BTreeMap::new();
    for backend in backends {
        members.entry(backend.address).or_default().push(Member {
            id: Arc::from(backend.id.as_str()),
            key: backend.key(),
            normal: backend.state == State::Normal,
        });
    }
    members
}
