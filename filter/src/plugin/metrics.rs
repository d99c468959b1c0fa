//! Envoy stats of the filter: names, and their ids, kept per VM.

use std::cell::RefCell;

use log::Level;
use proxy_wasm::types::MetricType;

use super::host;
use crate::balance::route::RefusalReason;
use crate::base::event::EventName;
use crate::base::hash::{self, ClusterKey, KeyMap};
use crate::cluster::Cluster;
use crate::gates::event::Event;

/// A counter of one cluster. Names carry tags as `;c=<cluster>;r=<reason>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter<'a> {
    /// Picks out of the ordinary: their reason.
    Pick(&'static str),
    /// Requests answered here.
    Refusal(&'static str),
    /// Requests whose body was not taken.
    BodyRefused(&'static str),
    /// Requests of JSON-RPC, by their method as far as the document names it (RL-13).
    Method(&'a str),
    /// Answers that became errors of JSON-RPC, by what those say.
    Mapped(&'static str),
    /// Requests that were held for their body, of which nothing ever came.
    BodyMissed,
    /// Attempts that failed, by how it is known.
    Failure(&'static str),
    /// Requests whose every attempt failed (RT-6).
    Exhausted,
    /// Changes of gates that are late: other workers outran them.
    Conflict,
    /// Cooldowns, by what gave them their length (RT-18).
    Cooldown(&'static str),
    /// Events, by name.
    Event(&'static str),
}

impl<'a> Counter<'a> {
    /// The counter of a refusal.
    pub fn refusal(reason: RefusalReason) -> Self {
        Counter::Refusal(reason.name())
    }

    fn name(self, cluster: &str) -> String {
        let (name, reason) = self.parts();
        tagged(name, cluster, reason)
    }

    fn parts(self) -> (&'static str, &'a str) {
        match self {
            Counter::Pick(reason) => ("pointsman_picks_total", reason),
            Counter::Refusal(reason) => ("pointsman_refusals_total", reason),
            Counter::BodyRefused(reason) => ("pointsman_bodies_refused_total", reason),
            Counter::Method(method) => ("pointsman_json_rpc_requests_total", method),
            Counter::Mapped(error) => ("pointsman_errors_mapped_total", error),
            Counter::BodyMissed => ("pointsman_bodies_missed_total", ""),
            Counter::Failure(reason) => ("pointsman_failed_attempts_total", reason),
            Counter::Exhausted => ("pointsman_retries_exhausted_total", ""),
            Counter::Conflict => ("pointsman_state_conflicts_total", ""),
            Counter::Cooldown(reason) => ("pointsman_cooldowns_total", reason),
            Counter::Event(reason) => ("pointsman_events_total", reason),
        }
    }
}

/// A gauge of one cluster; the same fact on every worker, gauges by one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Backends that are available (GT-9).
    Available,
    /// Backends there are.
    Total,
    /// Backends that are inside a cooldown.
    Cooling,
    /// 1 while requests are sent to the unhealthy.
    FailOpen,
    /// 1 while no backend is available.
    AllDown,
}

impl Gauge {
    fn name(self) -> &'static str {
        match self {
            Gauge::Available => "pointsman_available_backends",
            Gauge::Total => "pointsman_total_backends",
            Gauge::Cooling => "pointsman_cooling_backends",
            Gauge::FailOpen => "pointsman_fail_open",
            Gauge::AllDown => "pointsman_all_down",
        }
    }
}

/// A figure of the whole filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// Configurations that a VM took over.
    ConfigsApplied,
    /// Configurations that a VM refused.
    ConfigsRefused,
    /// Exchanges with the sidecar that succeeded.
    ExchangesDone,
    /// Exchanges with the sidecar that failed.
    ExchangesFailed,
    /// Times that verdicts ran out because the sidecar was silent.
    VerdictsExpired,
    /// Gauge: the revision in use, the upper 48 bits of its hash (AD-20).
    Revision,
    /// Gauge: fields of a newer schema that were passed over.
    IgnoredFields,
}

impl Whole {
    fn metric(self) -> (MetricType, &'static str) {
        match self {
            Whole::ConfigsApplied => (MetricType::Counter, "pointsman_configs_total;r=applied"),
            Whole::ConfigsRefused => (MetricType::Counter, "pointsman_configs_total;r=refused"),
            Whole::ExchangesDone => (MetricType::Counter, "pointsman_exchanges_total;r=done"),
            Whole::ExchangesFailed => (MetricType::Counter, "pointsman_exchanges_total;r=failed"),
            Whole::VerdictsExpired => (MetricType::Counter, "pointsman_verdicts_expired_total"),
            Whole::Revision => (MetricType::Gauge, "pointsman_config_revision"),
            Whole::IgnoredFields => (MetricType::Gauge, "pointsman_config_ignored_fields"),
        }
    }
}

fn tagged(name: &str, cluster: &str, reason: &str) -> String {
    match reason {
        "" => format!("{name};c={cluster}"),
        reason => format!("{name};c={cluster};r={reason}"),
    }
}

/// The ids of one VM's metrics, by a hash of what they are. Bounded by the clusters this VM has
/// seen.
#[derive(Debug, Default)]
pub struct Metrics(RefCell<KeyMap<u32>>);

impl Metrics {
    /// Counts one.
    pub fn count(&self, cluster: &Cluster, counter: Counter<'_>) {
        self.count_of((cluster.key, &cluster.name), counter);
    }

    fn count_of(&self, cluster: (ClusterKey, &str), counter: Counter<'_>) {
        let (name, reason) = counter.parts();
        let define = || host::define_metric(MetricType::Counter, &counter.name(cluster.1));
        if let Some(id) = self.id_of(key(cluster.0, name, reason), define) {
            host::add_metric(id, 1);
        }
    }

    /// Logs and counts what happened to a cluster.
    pub fn report(&self, cluster: &Cluster, events: &[Event]) {
        for event in events {
            if let Some(reason) = event.cooldown() {
                self.count(cluster, Counter::Cooldown(reason));
            }
            let fields = event.line(cluster);
            let cluster = (cluster.key, &*cluster.name);
            self.happened(cluster, event.name(), event.level(), &fields);
        }
    }

    /// Logs and counts an event of a cluster, by its key and name: the cluster may be gone.
    pub fn happened(
        &self,
        cluster: (ClusterKey, &str),
        event: EventName,
        level: Level,
        fields: &str,
    ) {
        log::log!(level, "event={} {fields}", event.name());
        self.count_of(cluster, Counter::Event(event.name()));
    }

    /// Logs and counts an event of the whole filter.
    pub fn happened_whole(&self, event: EventName, level: Level, fields: &str) {
        log::log!(level, "event={} {fields}", event.name());
        let (name, reason) = Counter::Event(event.name()).parts();
        let define = || host::define_metric(MetricType::Counter, &format!("{name};r={reason}"));
        if let Some(id) = self.id_of(key(ClusterKey::default(), name, reason), define) {
            host::add_metric(id, 1);
        }
    }

    /// Sets a gauge of a cluster, by its key and name: the cluster may be gone.
    pub fn record(&self, cluster: (ClusterKey, &str), gauge: Gauge, value: u64) {
        let define =
            || host::define_metric(MetricType::Gauge, &tagged(gauge.name(), cluster.1, ""));
        if let Some(id) = self.id_of(key(cluster.0, gauge.name(), ""), define) {
            host::record_metric(id, value);
        }
    }

    /// Counts one for the whole filter.
    pub fn count_whole(&self, figure: Whole) {
        if let Some(id) = self.id_of_whole(figure) {
            host::add_metric(id, 1);
        }
    }

    /// Sets a gauge of the whole filter.
    pub fn record_whole(&self, figure: Whole, value: u64) {
        if let Some(id) = self.id_of_whole(figure) {
            host::record_metric(id, value);
        }
    }

    fn id_of_whole(&self, figure: Whole) -> Option<u32> {
        let (kind, name) = figure.metric();
        self.id_of(key(ClusterKey::default(), name, ""), || {
            host::define_metric(kind, name)
        })
    }

    fn id_of(&self, key: u64, define: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let mut ids = self.0.borrow_mut();
        if let Some(id) = ids.get(&key) {
            return Some(*id);
        }
        let id = define()?;
        ids.insert(key, id);
        Some(id)
    }
}

/// Of the whole filter: with the key of no cluster.
fn key(cluster: ClusterKey, name: &str, reason: &str) -> u64 {
    hash::below(hash::below(cluster.0, name), reason)
}
