//! Stage 2: probes what the registry names, once for the whole fleet, and turns results into
//! verdicts.
//!
//! In reading order: [`target`] is what is probed, [`state`] the rules (with [`schedule`] and
//! [`thresholds`]), [`probe`] one probe, [`verdicts`] what filters are told.
//! A target is an address of a cluster; its verdict holds for every backend id there. Nothing is
//! stored: after a restart everything is healthy until probes say otherwise (HC-11).

#[cfg(test)]
mod fixture;
mod probe;
mod schedule;
mod state;
mod target;
mod thresholds;
mod verdicts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::event::Event;
use crate::model::outcome::{Obstacle, Outcome};
use crate::registry::Published;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
pub use state::{ClusterView, Health};
use target::{Job, TargetNumber};

/// Most probes under way at a time. Each needs a socket, and those who serve need some too.
const PROBES_MAX: usize = 512;

/// The prober: one owner of every probe.
pub struct Prober {
    /// What is wanted.
    pub registry: watch::Receiver<Published>,
    /// Where the verdicts go; receivers wake up only when a verdict changes.
    pub health: watch::Sender<Health>,
    /// Where results are counted.
    pub metrics: Metrics,
    /// Where turns are reported.
    pub events: Events,
    /// From when [`Health`] counts its time.
    pub started: Instant,
}

/// The probes that are under way.
#[derive(Default)]
struct UnderWay {
    probes: JoinSet<Outcome>,
    jobs: HashMap<task::Id, (AbortHandle, Job)>,
    tls: Arc<probe::TlsClients>,
}

impl Prober {
    /// Probes until told to stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut under_way = UnderWay::default();
        self.apply(&mut under_way);
        loop {
            self.start_due(&mut under_way);
            // A full prober waits for a probe to end, not for more to be due.
            let due = self
                .health
                .borrow()
                .next_due()
                .filter(|_| under_way.free() > 0);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.registry.changed() => match changed {
                    Ok(()) => self.apply(&mut under_way),
                    // The registry's stage ended, so all do.
                    Err(_) => break,
                },
                Some(ended) = under_way.probes.join_next_with_id() => {
                    self.finish(&mut under_way, ended);
                }
                () = sleep_until(self.started + due.unwrap_or_default()), if due.is_some() => {}
            }
        }
        under_way.probes.shutdown().await;
        Ok(())
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn apply(&mut self, under_way: &mut UnderWay) {
        let Some(registry) = self.registry.borrow_and_update().clone() else {
            return;
        };
        let now = self.now();
        let mut events = Vec::new();
        self.health.send_modify(|health| {
            events = health.apply(&registry.config.clusters, registry.revision, now);
        });
        let health = self.health.borrow();
        under_way.tls.clear();
        for (abort, job) in under_way.jobs.values() {
            if !health.awaits(job.target) {
                abort.abort();
            }
        }
        let clusters: BTreeMap<Arc<str>, bool> = health
            .clusters()
            .map(|cluster| (Arc::clone(cluster.name), cluster.probed))
            .collect();
        drop(health);
        self.metrics.keep_clusters(clusters);
        self.report(events);
    }

    fn start_due(&mut self, under_way: &mut UnderWay) {
        let now = self.now();
        let mut jobs = Vec::new();
        self.health.send_if_modified(|health| {
            jobs = health.start_due(now, under_way.free());
            false
        });
        for job in jobs {
            self.metrics.missed_rounds(&job.cluster, job.missed);
            under_way.start(job);
        }
        self.metrics.probes_under_way(under_way.jobs.len());
    }

    fn finish(&mut self, under_way: &mut UnderWay, ended: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => {
                if error.is_panic() {
                    error!(event = "probe_panicked", %error, "a probe ended by a bug of ours");
                }
                // A probe that was told to end has no target any more; any other one must give
                // its target back to the schedule.
                (
                    error.id(),
                    error
                        .is_panic()
                        .then_some(Outcome::Unknown(Obstacle::Resources)),
                )
            }
        };
        let job = under_way.jobs.remove(&id);
        if let (Some((_, job)), Some(outcome)) = (job, outcome) {
            self.take_result(&job.cluster, job.target, outcome);
        }
    }

    fn take_result(&self, cluster: &Arc<str>, target: TargetNumber, outcome: Outcome) {
        let now = self.now();
        let mut events = None;
        self.health.send_if_modified(|health| {
            let before = health.verdicts().version();
            events = health.take_result(target, outcome, now);
            health.verdicts().version() != before
        });
        if let Some(events) = events {
            self.metrics.probe(cluster, outcome);
            self.report(events);
        }
    }

    fn report(&self, events: Vec<Event>) {
        for event in events {
            self.events.report(event);
        }
    }
}

impl UnderWay {
    fn free(&self) -> usize {
        PROBES_MAX.saturating_sub(self.jobs.len())
    }

    fn start(&mut self, job: Job) {
        let (plan, address) = (Arc::clone(&job.plan), job.address);
        let tls = Arc::clone(&self.tls);
        let handle = self
            .probes
            .spawn(async move { probe::probe(&plan, address, &tls).await });
        self.jobs.insert(handle.id(), (handle, job));
    }
}

#[cfg(test)]
mod tests;
