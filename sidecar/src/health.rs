//! Stage 2: probes what the registry names, once for the whole fleet, and turns results into
//! verdicts.
//!
//! In reading order: [`target`] is what is probed, [`state`] the rules (with [`schedule`] and
//! [`thresholds`]), [`probe`] one probe, [`verdicts`] what filters are told, [`view`] what pages,
//! metrics and statuses show.
//! A target is an address of a cluster; its verdict holds for every backend id there. Nothing is
//! stored: after a restart everything is healthy until probes say otherwise (HC-11), but for what
//! the proxies hand back.

#[cfg(test)]
mod fixture;
mod pace;
mod probe;
mod schedule;
mod state;
mod target;
mod thresholds;
mod verdicts;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::fleet::exchange::ClusterVerdicts;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::event::Event;
use crate::model::outcome::{Obstacle, Outcome};
use crate::registry::Published;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::trust::Trust;
use pace::Pace;
pub use state::Health;
use target::Job;
pub use verdicts::Verdicts;
pub use view::{ClusterHealth, HealthView};

/// Most probes under way at a time. Each needs a socket, and those who serve need some too.
const PROBES_MAX: usize = 512;
/// Between two tables of verdicts: an outage of thousands of backends would copy it for each.
const VERDICTS_GAP: Duration = Duration::from_millis(1);
/// Between two views of which the later shows another verdict.
const TURN_GAP: Duration = Duration::from_millis(100);
/// Between two views that differ in when probes ended.
const VIEW_GAP: Duration = Duration::from_secs(1);

/// Verdicts of the sidecar before this one, as a proxy has them.
pub struct HandedBack {
    /// Who is unhealthy.
    pub verdicts: Vec<ClusterVerdicts>,
    /// Told once they are taken over.
    pub taken: oneshot::Sender<()>,
}

/// The prober: one owner of every probe.
pub struct Prober {
    /// What is wanted.
    pub registry: watch::Receiver<Published>,
    /// Whom clusters trust.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// What proxies know from before.
    pub handed_back: mpsc::Receiver<HandedBack>,
    /// What it knows, and nobody else's.
    pub state: Health,
    /// Where the verdicts go; receivers wake up only when a verdict changes.
    pub verdicts: watch::Sender<Arc<Verdicts>>,
    /// What pages, metrics and statuses show.
    pub view: watch::Sender<Arc<HealthView>>,
    /// Where results are counted.
    pub metrics: Metrics,
    /// Where turns are reported.
    pub events: Events,
    /// From when [`Health`] counts its time.
    pub started: Instant,
}

/// The probes that are under way.
struct UnderWay {
    probes: JoinSet<Outcome>,
    jobs: HashMap<task::Id, Running>,
    tls: Arc<probe::TlsClients>,
    /// When what they found is published.
    verdicts: Pace,
    view: Pace,
}

/// One of them.
struct Running {
    abort: AbortHandle,
    job: Job,
    begun: Instant,
}

impl Prober {
    /// Probes until told to stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut under_way = UnderWay::new(self.trust.clone());
        self.apply(&mut under_way);
        loop {
            self.start_due(&mut under_way);
            self.publish(&mut under_way);
            // A full prober waits for a probe to end, not for more to be due.
            let due = self.state.next_due(under_way.free());
            let due = due.map(|due| self.started + due);
            let paces = [under_way.view.due(), under_way.verdicts.due()];
            let wake = paces.into_iter().flatten().chain(due).min();
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
                Some(back) = self.handed_back.recv() => self.take_back(back, &mut under_way),
                () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => {}
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
        let (clusters, revision) = (&registry.config.clusters, registry.revision);
        let events = self.state.apply(clusters, revision, now);
        under_way.tls.clear();
        for running in under_way.jobs.values() {
            if !self.state.awaits(running.job.target) {
                running.abort.abort();
            }
        }
        let view = self.state.view();
        let clusters = view.clusters();
        let clusters = clusters.map(|cluster| (Arc::clone(&cluster.name), cluster.probed));
        self.metrics.keep_clusters(clusters.collect());
        self.view.send_replace(view);
        self.tell_verdicts();
        self.report(events);
    }

    fn take_back(&mut self, back: HandedBack, under_way: &mut UnderWay) {
        let events = self.state.take_back(back.verdicts);
        self.tell_verdicts();
        under_way.view.want(TURN_GAP, Instant::now());
        self.report(events);
        // A proxy that waits no longer gets them with its next post.
        let _ = back.taken.send(());
    }

    fn start_due(&mut self, under_way: &mut UnderWay) {
        let now = self.now();
        for job in self.state.start_due(now, under_way.free()) {
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
        let running = under_way.jobs.remove(&id);
        if let (Some(running), Some(outcome)) = (running, outcome) {
            let now = Instant::now();
            under_way.view.want(VIEW_GAP, now);
            if self.take_result(&running.job, outcome, now - running.begun) {
                under_way.verdicts.want(VERDICTS_GAP, now);
                under_way.view.want(TURN_GAP, now);
            }
        }
    }

    /// Whether a verdict is another one now.
    fn take_result(&mut self, job: &Job, outcome: Outcome, took: Duration) -> bool {
        let before = self.state.verdicts().version();
        let events = self.state.take_result(job.target, outcome, self.now());
        if let Some(events) = events {
            self.metrics.probe(&job.cluster, outcome, took);
            self.report(events);
        }
        self.state.verdicts().version() != before
    }

    fn publish(&mut self, under_way: &mut UnderWay) {
        let now = Instant::now();
        // First, for who looks at it because a verdict has changed.
        if under_way.view.take(now) {
            self.view.send_replace(self.state.view());
        }
        if under_way.verdicts.take(now) {
            self.tell_verdicts();
        }
    }

    fn tell_verdicts(&self) {
        let verdicts = self.state.verdicts();
        self.verdicts.send_if_modified(|told| {
            let news = told.version() != verdicts.version();
            if news {
                *told = Arc::new(verdicts.clone());
            }
            news
        });
    }

    fn report(&self, events: Vec<Event>) {
        for event in events {
            self.events.report(event);
        }
    }
}

impl UnderWay {
    fn new(trust: watch::Receiver<Arc<Trust>>) -> Self {
        UnderWay {
            probes: JoinSet::new(),
            jobs: HashMap::new(),
            tls: Arc::new(probe::TlsClients::new(trust)),
            verdicts: Pace::default(),
            view: Pace::default(),
        }
    }

    fn free(&self) -> usize {
        PROBES_MAX.saturating_sub(self.jobs.len())
    }

    fn start(&mut self, job: Job) {
        let (plan, address) = (Arc::clone(&job.plan), job.address);
        let tls = Arc::clone(&self.tls);
        let handle = self
            .probes
            .spawn(async move { probe::probe(&plan, address, &tls).await });
        let id = handle.id();
        let running = Running {
            abort: handle,
            job,
            begun: Instant::now(),
        };
        self.jobs.insert(id, running);
    }
}

#[cfg(test)]
mod tests;
