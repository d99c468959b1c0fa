//! What operators can see happen: each a value with one name and one log line.
//!
//! The rules return events, the edge that drives them reports them to the one sink. An event stands for a
//! change; what merely goes on is a metric.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::{Failure, Obstacle};
use super::overrides::{Override, Overrides};
use super::size::Size;

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Probes took a backend out.
    BackendUnhealthy {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its id.
        backend: Arc<str>,
        /// Where it listens.
        address: SocketAddr,
        /// How the last of its probes failed.
        reason: Failure,
    },
    /// A backend counts as healthy again.
    BackendHealthy {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its id.
        backend: Arc<str>,
        /// Where it listens.
        address: SocketAddr,
        /// What brought it back.
        reason: Recovery,
    },
    /// Backends that were unhealthy before count as unhealthy until probes have decided.
    VerdictsResumed {
        /// Their cluster.
        cluster: Arc<str>,
        /// How many.
        backends: usize,
        /// Who knew.
        origin: Origin,
    },
    /// Some backends of a cluster are healthy, but no more than half of them (HC-14): said when it
    /// comes to be so, not at every result; the gauge `cluster_half_healthy` says for how long.
    ClusterHalfHealthy {
        /// The cluster.
        cluster: Arc<str>,
        /// Backends that take requests and are healthy.
        healthy: usize,
        /// Backends that take requests.
        total: usize,
    },
    /// A cluster's probes cannot be made; its verdicts stay as they are.
    ProbesObstructed {
        /// The cluster.
        cluster: Arc<str>,
        /// Why not.
        obstacle: Obstacle,
    },
    /// A filter refused a configuration; the one before it still serves there.
    ConfigRefused {
        /// Envoy's node id.
        node: String,
        /// The revision it refused.
        revision: u64,
        /// Its parser's text.
        reason: String,
    },
    /// The registry's store cannot be reached; the last good registry serves.
    RegistryLost {
        /// Why not, without passwords.
        reason: String,
    },
    /// It can be reached again and has been read.
    RegistryRestored,
    /// Reading all of it takes so long that changes wait for it; it did not before.
    RegistrySlow {
        /// How long the last reading took.
        took: Duration,
    },
    /// A reading lost so much that it waits for a second one.
    RegistryGuardHeld {
        /// What is served meanwhile.
        served: Size,
        /// What was read.
        found: Size,
    },
    /// The wait is over.
    RegistryGuardReleased {
        /// The second reading said the same, so it is served; else the loss was made good.
        confirmed: bool,
    },
    /// An override on a backend is in force from now on.
    OverrideSet {
        /// The cluster.
        cluster: String,
        /// The backend's id.
        backend: String,
        /// What was said.
        entry: Override,
    },
    /// An operator took an override back.
    OverrideCleared {
        /// The cluster.
        cluster: String,
        /// The backend's id.
        backend: String,
    },
    /// An override came to its end.
    OverrideExpired {
        /// The cluster.
        cluster: String,
        /// The backend's id.
        backend: String,
    },
    /// The store's clock was set.
    ClockStepped {
        /// How far ahead, ms; negative: back.
        by_ms: i64,
    },
    /// What a backend that registered itself says of its last heartbeat cannot be true; it counts from
    /// when it was seen.
    HeartbeatImpossible {
        /// Its cluster.
        cluster: String,
        /// Its id.
        backend: String,
        /// Why not.
        reason: HeartbeatFault,
    },
    /// A job is done, all of it.
    JobDone {
        /// Its id.
        job: String,
    },
    /// A job cannot be done.
    JobFailed {
        /// Its id.
        job: String,
        /// The store's text, without passwords.
        reason: String,
    },
}

/// Why a heartbeat cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum HeartbeatFault {
    /// No number, or of another unit.
    #[error("must be Redis time in ms; until then it counts from when it was seen")]
    NotMilliseconds,
    /// It has not come yet.
    #[error("lies in the future by Redis's clock; it counts from when it was seen")]
    Future,
    /// The backend was seen after it, and before it said so.
    #[error("is older than the record that says it; it counts from when it was seen")]
    Past,
}

impl HeartbeatFault {
    /// Every label there is.
    pub const LABELS: [&'static str; 3] = ["not_milliseconds", "future", "past"];

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            HeartbeatFault::NotMilliseconds => "not_milliseconds",
            HeartbeatFault::Future => "future",
            HeartbeatFault::Past => "past",
        }
    }
}

/// What makes a backend healthy again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Its probes pass.
    ProbesPass,
    /// Nobody asks any more: its cluster has no health check now (HC-15).
    CheckRemoved,
}

impl Recovery {
    /// Every label there is.
    pub const LABELS: [&'static str; 2] = ["probes_pass", "check_removed"];

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Recovery::ProbesPass => "probes_pass",
            Recovery::CheckRemoved => "check_removed",
        }
    }
}

/// From where it is known who was unhealthy before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Proxies handed it back to a sidecar that had just started.
    Proxies,
    /// Their cluster had left the registry, and is back.
    Return,
}

impl Origin {
    /// Every label there is.
    pub const LABELS: [&'static str; 2] = ["handed_back", "cluster_returned"];

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Origin::Proxies => "handed_back",
            Origin::Return => "cluster_returned",
        }
    }
}

/// The names of log lines for which there is no value: what the process and its connections go
/// through. Each stands in the line's field `event`, and is counted there.
pub const LINES: [&str; 23] = [
    "acked",
    "ca_file_taken",
    "ca_file_unusable",
    "counters_connected",
    "demo_mode",
    "lease_unavailable",
    "listening",
    "nacked",
    "probe_panicked",
    "proxy_connected",
    "proxy_gone",
    "queue_connected",
    "queue_lost",
    "record_rejected",
    "record_warned",
    "registry_changed",
    "registry_connected",
    "registry_read_only",
    "registry_unreadable",
    "sidecar_failed",
    "snapshot",
    "stopping",
    "type_not_served",
];

impl Event {
    /// The names of all events that are values.
    pub const NAMES: [&'static str; 18] = [
        "backend_unhealthy",
        "backend_healthy",
        "verdicts_resumed",
        "cluster_half_healthy",
        "probes_obstructed",
        "config_refused",
        "registry_lost",
        "registry_restored",
        "registry_slow",
        "registry_guard_held",
        "registry_guard_released",
        "override_set",
        "override_cleared",
        "override_expired",
        "clock_stepped",
        "heartbeat_impossible",
        "job_done",
        "job_failed",
    ];

    /// Its name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Event::BackendUnhealthy { .. } => "backend_unhealthy",
            Event::BackendHealthy { .. } => "backend_healthy",
            Event::VerdictsResumed { .. } => "verdicts_resumed",
            Event::ClusterHalfHealthy { .. } => "cluster_half_healthy",
            Event::ProbesObstructed { .. } => "probes_obstructed",
            Event::ConfigRefused { .. } => "config_refused",
            Event::RegistryLost { .. } => "registry_lost",
            Event::RegistryRestored => "registry_restored",
            Event::RegistrySlow { .. } => "registry_slow",
            Event::RegistryGuardHeld { .. } => "registry_guard_held",
            Event::RegistryGuardReleased { .. } => "registry_guard_released",
            Event::OverrideSet { .. } => "override_set",
            Event::OverrideCleared { .. } => "override_cleared",
            Event::OverrideExpired { .. } => "override_expired",
            Event::ClockStepped { .. } => "clock_stepped",
            Event::HeartbeatImpossible { .. } => "heartbeat_impossible",
            Event::JobDone { .. } => "job_done",
            Event::JobFailed { .. } => "job_failed",
        }
    }

    /// Its reason, where it is one of a closed list; the words of a store or a parser are not.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Event::BackendUnhealthy { reason, .. } => Some(reason.label()),
            Event::BackendHealthy { reason, .. } => Some(reason.label()),
            Event::VerdictsResumed { origin, .. } => Some(origin.label()),
            Event::ProbesObstructed { obstacle, .. } => Some(obstacle.label()),
            Event::HeartbeatImpossible { reason, .. } => Some(reason.label()),
            _ => None,
        }
    }

    /// Every reason that an event of this name can have.
    pub fn reasons(name: &str) -> &'static [&'static str] {
        match name {
            "backend_unhealthy" => &Failure::LABELS,
            "backend_healthy" => &Recovery::LABELS,
            "verdicts_resumed" => &Origin::LABELS,
            "probes_obstructed" => &Obstacle::LABELS,
            "heartbeat_impossible" => &HeartbeatFault::LABELS,
            _ => &[],
        }
    }
}

/// What happened between two readings, the later one at `now`.
pub fn override_events(before: &Overrides, later: &Overrides, now: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for (cluster, backend, entry) in later.in_force() {
        if before.get(cluster, backend) != Some(entry) {
            events.push(Event::OverrideSet {
                cluster: cluster.to_owned(),
                backend: backend.to_owned(),
                entry: entry.clone(),
            });
        }
    }
    for (cluster, backend, entry) in before.in_force() {
        if later.get(cluster, backend).is_none() {
            let (cluster, backend) = (cluster.to_owned(), backend.to_owned());
            events.push(match entry.holds(now) {
                true => Event::OverrideCleared { cluster, backend },
                false => Event::OverrideExpired { cluster, backend },
            });
        }
    }
    events
}
