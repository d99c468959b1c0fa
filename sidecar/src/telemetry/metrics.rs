//! What is counted, under which names, and the one match from event to counter.
//!
//! Labels are names from the registry and closed sets of labels; clusters are `pointsman_cluster`,
//! for many a Prometheus gives its targets a `cluster` of their own. Series of a cluster appear at
//! zero with it and vanish with it. Gauges are read from the stages when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::counts::EventCounts;
use crate::model::event::Event;
use crate::model::outcome::{Failure, Outcome};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every counter, and the way to all metrics as text. Clones count into the same counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    counters: Counters,
    registry: Arc<Registry>,
    /// The clusters that have series, and whether they are probed.
    clusters: Arc<Mutex<BTreeMap<Arc<str>, bool>>>,
}

#[derive(Clone, Debug)]
struct Counters {
    events: EventCounts,
    probes: Family<ByResult, Counter>,
    probe_failures: Family<ByReason, Counter>,
    probe_durations: Family<ByCluster, Histogram, fn() -> Histogram>,
    transitions: Family<ByVerdict, Counter>,
    exchanges: Family<ByReply, Counter>,
    under_way: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCluster {
    pointsman_cluster: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    pointsman_cluster: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    pointsman_cluster: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    pointsman_cluster: Arc<str>,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReply {
    reply: &'static str,
}

const RESULTS: [&str; 3] = ["pass", "fail", "unknown"];
const VERDICTS: [&str; 2] = ["healthy", "unhealthy"];
/// Upper bounds of a probe's duration, seconds (HC-21).
const DURATIONS: [f64; 5] = [0.1, 0.5, 1.0, 2.0, 5.0];

impl Default for Metrics {
    /// Counters alone.
    fn default() -> Self {
        Self::over(EventCounts::default(), None)
    }
}

impl Metrics {
    /// All other counters at zero; `gauges` are asked anew for every text.
    pub fn new(events: EventCounts, gauges: impl Collector) -> Self {
        Self::over(events, Some(Box::new(gauges)))
    }

    fn over(events: EventCounts, gauges: Option<Box<dyn Collector>>) -> Self {
        let counters = Counters {
            events,
            probes: Family::default(),
            probe_failures: Family::default(),
            probe_durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            transitions: Family::default(),
            exchanges: Family::default(),
            under_way: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("pointsman");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register(
            "events",
            "Changes worth a log line",
            counters.events.family(),
        );
        registry.register("probes", "Probes by result", counters.probes.clone());
        let help = "Failed probes by reason";
        registry.register("probe_failures", help, counters.probe_failures.clone());
        let help = "How long probes took that were made";
        let durations = counters.probe_durations.clone();
        registry.register_with_unit("probe_duration", help, Unit::Seconds, durations);
        let help = "Backends whose verdict changed, by the new verdict";
        registry.register("verdict_changes", help, counters.transitions.clone());
        let help = "Posts of filters to the exchange, by what was replied";
        registry.register("exchange_requests", help, counters.exchanges.clone());
        registry.register(
            "probes_under_way",
            "Probes under way",
            counters.under_way.clone(),
        );
        if let Some(gauges) = gauges {
            registry.register_collector(gauges);
        }
        Metrics {
            counters,
            registry: Arc::new(registry),
            clusters: Arc::default(),
        }
    }

    /// Everything, as OpenMetrics text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts an event. Its cluster, if it has one, still has its series.
    pub fn event(&self, event: &Event) {
        self.counters.events.count(event.name(), event.reason());
        let (cluster, verdict) = match event {
            Event::BackendHealthy { cluster, .. } => (cluster, VERDICTS[0]),
            Event::BackendUnhealthy { cluster, .. } => (cluster, VERDICTS[1]),
            Event::VerdictsResumed { .. }
            | Event::ClusterHalfHealthy { .. }
            | Event::ProbesObstructed { .. }
            | Event::ConfigRefused { .. }
            | Event::RegistryLost { .. }
            | Event::RegistryRestored
            | Event::RegistrySlow { .. }
            | Event::RegistryGuardHeld { .. }
            | Event::RegistryGuardReleased { .. }
            | Event::OverrideSet { .. }
            | Event::OverrideCleared { .. }
            | Event::OverrideExpired { .. }
            | Event::ClockStepped { .. }
            | Event::HeartbeatImpossible { .. }
            | Event::JobDone { .. }
            | Event::JobFailed { .. } => return,
        };
        self.counters
            .transitions
            .get_or_create(&verdict_of(cluster, verdict))
            .inc();
    }

    /// How often each event was counted.
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        self.counters.events.of_values()
    }

    /// Counts what came of a probe that took so long.
    pub fn probe(&self, cluster: &Arc<str>, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Passed => RESULTS[0],
            Outcome::Failed(_) => RESULTS[1],
            Outcome::Unknown(_) => RESULTS[2],
        };
        self.counters
            .probes
            .get_or_create(&result_of(cluster, result))
            .inc();
        // One that could not be made says nothing of how long they take.
        if !matches!(outcome, Outcome::Unknown(_)) {
            let durations = &self.counters.probe_durations;
            let duration = durations.get_or_create(&durations_of(cluster));
            duration.observe(took.as_secs_f64());
        }
        if let Outcome::Failed(failure) = outcome {
            let reason = failure.label();
            self.counters
                .probe_failures
                .get_or_create(&reason_of(cluster, reason))
                .inc();
        }
    }

    /// Counts rounds that went by because the prober was full: results nobody knows.
    pub fn missed_rounds(&self, cluster: &Arc<str>, rounds: u64) {
        if rounds > 0 {
            self.counters
                .probes
                .get_or_create(&result_of(cluster, RESULTS[2]))
                .inc_by(rounds);
        }
    }

    /// How many probes are under way.
    pub fn probes_under_way(&self, count: usize) {
        self.counters
            .under_way
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a reply of the exchange.
    pub fn exchange(&self, reply: &'static str) {
        self.counters
            .exchanges
            .get_or_create(&ByReply { reply })
            .inc();
    }

    /// The clusters there are now, and whether they are probed: series of others vanish, new ones
    /// start at zero.
    pub fn keep_clusters(&self, clusters: BTreeMap<Arc<str>, bool>) {
        let mut known = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        for (cluster, probed) in known.iter() {
            match clusters.get(cluster) {
                None => {
                    self.remove_probes(cluster);
                    for verdict in VERDICTS {
                        self.counters
                            .transitions
                            .remove(&verdict_of(cluster, verdict));
                    }
                }
                Some(false) if *probed => self.remove_probes(cluster),
                Some(_) => {}
            }
        }
        for (cluster, probed) in &clusters {
            for verdict in VERDICTS {
                drop(
                    self.counters
                        .transitions
                        .get_or_create(&verdict_of(cluster, verdict)),
                );
            }
            if *probed {
                let durations = &self.counters.probe_durations;
                drop(durations.get_or_create(&durations_of(cluster)));
            }
            for result in RESULTS.iter().filter(|_| *probed) {
                drop(
                    self.counters
                        .probes
                        .get_or_create(&result_of(cluster, result)),
                );
            }
        }
        *known = clusters;
    }

    fn remove_probes(&self, cluster: &Arc<str>) {
        let durations = &self.counters.probe_durations;
        durations.remove(&durations_of(cluster));
        for result in RESULTS {
            self.counters.probes.remove(&result_of(cluster, result));
        }
        for reason in Failure::LABELS {
            self.counters
                .probe_failures
                .remove(&reason_of(cluster, reason));
        }
    }
}

fn durations_of(cluster: &Arc<str>) -> ByCluster {
    let pointsman_cluster = Arc::clone(cluster);
    ByCluster { pointsman_cluster }
}

fn result_of(cluster: &Arc<str>, result: &'static str) -> ByResult {
    let pointsman_cluster = Arc::clone(cluster);
    ByResult {
        pointsman_cluster,
        result,
    }
}

fn reason_of(cluster: &Arc<str>, reason: &'static str) -> ByReason {
    let pointsman_cluster = Arc::clone(cluster);
    ByReason {
        pointsman_cluster,
        reason,
    }
}

fn verdict_of(cluster: &Arc<str>, verdict: &'static str) -> ByVerdict {
    let pointsman_cluster = Arc::clone(cluster);
    ByVerdict {
        pointsman_cluster,
        verdict,
    }
}

#[cfg(test)]
mod tests;
