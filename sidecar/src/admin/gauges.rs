//! What is measured rather than counted: read from the stages' own state at every scrape, so that
//! nothing of what is gone can stay behind.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;

use crate::fleet::Fleet;
use crate::health::{ClusterHealth, HealthView};
use crate::jobs::QueueStatus;
use crate::registry::{Published, Reachability, SourceStatus};
use crate::xds::{Kind, Proxies};

/// Where the gauges are read.
#[derive(Debug)]
pub struct Gauges {
    /// Stage 1.
    pub registry: watch::Receiver<Published>,
    /// How its source is doing.
    pub source: watch::Receiver<SourceStatus>,
    /// Stage 2.
    pub health: watch::Receiver<Arc<HealthView>>,
    /// What proxies report.
    pub fleet: watch::Receiver<Fleet>,
    /// What the xDS streams say.
    pub proxies: watch::Receiver<Proxies>,
    /// How the queue of jobs is doing.
    pub queue: watch::Receiver<QueueStatus>,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let registry = self.registry.borrow().clone();
        let rejected = registry.map_or(0, |registry| registry.rejected.len());
        let help = "Records of the registry that are refused";
        single(encoder, "registry_rejected_records", help, rejected)?;
        self.encode_source(encoder)?;
        self.encode_clusters(encoder)?;
        self.encode_backends(encoder)?;
        self.encode_proxies(encoder)?;
        self.encode_queue(encoder)
    }
}

impl Gauges {
    fn encode_source(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.source.borrow();
        if source.reachability != Reachability::Memory {
            let up = usize::from(source.reachability == Reachability::Up);
            let help = "1 while the registry's store can be reached, else 0";
            single(encoder, "registry_store_up", help, up)?;
        }
        let held = usize::from(source.held.is_some());
        let help = "1 while the loss of most backends waits for its confirmation";
        single(encoder, "registry_guard_holding", help, held)
    }

    fn encode_clusters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let health = Arc::clone(&self.health.borrow());
        let series = |value: fn(&ClusterHealth) -> usize| {
            let clusters = health.clusters();
            clusters.map(move |it| ([("pointsman_cluster", it.name.as_ref())], value(it)))
        };
        let help = "Backends that take requests";
        gauge(encoder, "backends", help, series(|it| it.total))?;
        let help = "Backends that take requests and are healthy";
        gauge(encoder, "healthy_backends", help, series(|it| it.healthy))?;
        let help = "1 where some backends are healthy, but no more than half";
        let half = series(|it| usize::from(it.half_healthy));
        gauge(encoder, "cluster_half_healthy", help, half)
    }

    fn encode_backends(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let health = Arc::clone(&self.health.borrow());
        let series = health.backends().map(|backend| {
            let labels = [
                ("pointsman_cluster", backend.cluster.to_string()),
                ("backend", backend.id.to_string()),
                ("address", backend.address.to_string()),
            ];
            (labels, usize::from(backend.healthy))
        });
        let help = "1 where a probed backend is healthy, else 0";
        gauge(encoder, "backend_healthy", help, series)
    }

    fn encode_proxies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let fleet = self.fleet.borrow();
        let help = "Proxies whose filters report";
        single(encoder, "fleet_nodes", help, fleet.reports().count())?;
        let workers: u64 = fleet.reports().map(|it| u64::from(it.workers)).sum();
        let workers = usize::try_from(workers).unwrap_or(usize::MAX);
        single(
            encoder,
            "fleet_workers",
            "Workers of these proxies",
            workers,
        )?;
        let streams = &self.proxies.borrow().streams;
        single(encoder, "xds_streams", "Open xDS streams", streams.len())?;
        let refusing = |kind: Kind| {
            let types = streams.values().filter_map(|proxy| proxy.types.get(&kind));
            types.filter(|progress| progress.nacked.is_some()).count()
        };
        let series = Kind::ALL.map(|kind| ([("type", kind.name())], refusing(kind)));
        let help = "Open xDS streams whose proxy refused the last resources of a type";
        gauge(encoder, "xds_refusing_streams", help, series)
    }

    /// Absent where there is no queue, and while nobody knows.
    fn encode_queue(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(depth) = self.queue.borrow().depth() else {
            return Ok(());
        };
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let help = "Jobs that wait or are under way";
        single(encoder, "jobs_queue_depth", help, depth)
    }
}

/// Writes one gauge that has no labels.
fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: usize,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(&value)
}

/// Writes one gauge with all its series.
fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, usize)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::counts::EventCounts;
    use crate::telemetry::metrics::Metrics;

    fn text(queue: QueueStatus) -> String {
        let metrics = Metrics::new(
            EventCounts::default(),
            Gauges {
                registry: watch::Sender::new(None).subscribe(),
                source: watch::Sender::default().subscribe(),
                health: watch::Sender::default().subscribe(),
                fleet: watch::Sender::new(Fleet::default()).subscribe(),
                proxies: watch::Sender::new(Proxies::default()).subscribe(),
                queue: watch::Sender::new(queue).subscribe(),
            },
        );
        metrics.text().expect("metrics")
    }

    #[test]
    fn gauges_stand_beside_the_counters() {
        let text = text(QueueStatus::Disabled);
        assert!(text.contains("pointsman_fleet_nodes 0\n"), "{text}");
        assert!(text.contains("pointsman_build_info{version="), "{text}");
    }

    #[test]
    fn the_depth_of_the_queue_is_told_where_there_is_one_and_it_is_known() {
        for (queue, depth) in [
            (QueueStatus::Disabled, None),
            (QueueStatus::Memory(0), Some(0)),
            (QueueStatus::Unread, Some(0)),
            (QueueStatus::Up(7), Some(7)),
            (QueueStatus::Down, None),
        ] {
            let text = text(queue);
            let line = text
                .lines()
                .find(|it| it.starts_with("pointsman_jobs_queue_depth"));
            let expected = depth.map(|depth: u64| format!("pointsman_jobs_queue_depth {depth}"));
            assert_eq!(line, expected.as_deref(), "{queue:?}");
        }
    }
}
