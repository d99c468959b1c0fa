//! The prober's rules: a registry and results in; probes to make, verdicts and events out.
//!
//! Nothing here waits, connects or logs. `now` is the time since the start of the sidecar.

mod apply;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::{self, Schedule};
use super::target::{Cluster, Job, Member, Target, TargetNumber};
use super::verdicts::Verdicts;
use crate::model::event::{Event, Recovery};
use crate::model::outcome::{Failure, Outcome};

/// Everything the prober knows.
#[derive(Debug)]
pub struct Health {
    seed: u64,
    clusters: BTreeMap<Arc<str>, Cluster>,
    targets: BTreeMap<TargetNumber, Target>,
    last_number: TargetNumber,
    schedule: Schedule,
    verdicts: Verdicts,
}

/// A cluster and its backends, counted.
#[derive(Debug, Clone, Copy)]
pub struct ClusterView<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Whether it has a health check.
    pub probed: bool,
    /// Backends that take requests.
    pub total: usize,
    /// Those of them that are healthy.
    pub healthy: usize,
    /// Some are healthy, but no more than half.
    pub half_healthy: bool,
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

impl Health {
    /// Nothing known. `seed` and `epoch` are random: one places the targets in time, the other
    /// tells this incarnation's verdicts from another's.
    pub fn new(seed: u64, epoch: u64) -> Self {
        Health {
            seed,
            clusters: BTreeMap::new(),
            targets: BTreeMap::new(),
            last_number: 0,
            schedule: Schedule::default(),
            verdicts: Verdicts::new(epoch),
        }
    }

    /// The verdicts as filters are told them.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether a result for this target would still count.
    pub fn awaits(&self, target: TargetNumber) -> bool {
        self.targets
            .get(&target)
            .is_some_and(|target| target.started.is_some())
    }

    /// When the next probe is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.schedule.next()
    }

    /// The clusters, by name.
    pub fn clusters(&self) -> impl Iterator<Item = ClusterView<'_>> {
        self.clusters.values().map(ClusterView::of)
    }

    /// One cluster.
    pub fn cluster(&self, name: &str) -> Option<ClusterView<'_>> {
        self.clusters.get(name).map(ClusterView::of)
    }

    /// What is known of the backends of a cluster at an address; `None` where nothing is probed.
    pub fn backend(&self, cluster: &str, address: SocketAddr) -> Option<BackendHealth> {
        let number = self.clusters.get(cluster)?.targets.get(&address)?;
        let target = self.targets.get(number)?;
        Some(BackendHealth {
            healthy: target.thresholds.healthy(),
            failures: target.thresholds.failures(),
            last_failure: target.seen.failure,
            last_check: target.seen.checked,
        })
    }

    /// The backends that are probed.
    pub fn backends(&self) -> impl Iterator<Item = BackendView<'_>> {
        self.targets.values().flat_map(|target| {
            let members = target.members.iter().filter(|member| member.normal);
            members.map(|member| BackendView {
                cluster: &target.cluster,
                id: &member.id,
                address: target.address,
                healthy: target.thresholds.healthy(),
            })
        })
    }

    /// Takes out of the schedule what is due, longest due first, at most `free` of it.
    pub fn start_due(&mut self, now: Duration, free: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        while jobs.len() < free
            && let Some((number, due)) = self.schedule.pop(now)
        {
            let Some(target) = self.targets.get_mut(&number) else {
                continue;
            };
            let Some((check, plan)) = self
                .clusters
                .get(&target.cluster)
                .and_then(|cluster| cluster.check.as_ref())
            else {
                continue;
            };
            target.started = Some(now);
            let gap = schedule::gap(check.interval, target.draw);
            let late = now.saturating_sub(due).as_micros() / gap.as_micros().max(1);
            let port = if plan.port == 0 {
                target.address.port()
            } else {
                plan.port
            };
            jobs.push(Job {
                target: number,
                cluster: Arc::clone(&target.cluster),
                address: SocketAddr::new(target.address.ip(), port),
                plan: Arc::clone(plan),
                missed: u64::try_from(late).unwrap_or(u64::MAX),
            });
        }
        jobs
    }

    /// Takes what came of a probe. `None`: the target is gone or is asked something else by now,
    /// so the result counts for nothing.
    pub fn take_result(
        &mut self,
        number: TargetNumber,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Vec<Event>> {
        let target = self.targets.get_mut(&number)?;
        let started = target.started?;
        let cluster = self.clusters.get_mut(&target.cluster)?;
        let interval = cluster.check.as_ref()?.0.interval;
        target.note(outcome, now);
        let gap = schedule::gap(interval, target.draw);
        self.schedule
            .set(number, started.saturating_add(gap).max(now));
        let passed = match outcome {
            Outcome::Passed => true,
            Outcome::Failed(_) => false,
            Outcome::Unknown(obstacle) => {
                let event = Event::ProbesObstructed {
                    cluster: Arc::clone(&cluster.name),
                    obstacle,
                };
                let first = cluster.obstruct(target);
                return Some(first.then_some(event).into_iter().collect());
            }
        };
        cluster.clear(target);
        let (check, _) = cluster.check.as_ref()?;
        if !target.thresholds.take(passed, check) {
            return Some(Vec::new());
        }
        let was_half = cluster.half_healthy();
        let normal = target.normal_members();
        cluster.healthy = if passed {
            cluster.healthy + normal
        } else {
            cluster.healthy.saturating_sub(normal)
        };
        for member in &target.members {
            self.verdicts.set(&target.cluster, member.key, !passed);
        }
        let mut events = edges(target, outcome);
        on_half_healthy(cluster, was_half, &mut events);
        Some(events)
    }
}

impl<'a> ClusterView<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        ClusterView {
            name: &cluster.name,
            probed: cluster.check.is_some(),
            total: cluster.total,
            healthy: cluster.healthy,
            half_healthy: cluster.half_healthy(),
        }
    }
}

/// One event for each backend of a target whose verdict changed.
fn edges(target: &Target, outcome: Outcome) -> Vec<Event> {
    let edge = |member: &Member| {
        let (cluster, backend) = (Arc::clone(&target.cluster), Arc::clone(&member.id));
        let address = target.address;
        match outcome {
            Outcome::Failed(reason) => Event::BackendUnhealthy {
                cluster,
                backend,
                address,
                reason,
            },
            _ => Event::BackendHealthy {
                cluster,
                backend,
                address,
                reason: Recovery::ProbesPass,
            },
        }
    };
    target.members.iter().map(edge).collect()
}

/// Says so when a cluster came to be half healthy.
fn on_half_healthy(cluster: &Cluster, was_half: bool, events: &mut Vec<Event>) {
    if cluster.half_healthy() && !was_half {
        events.push(Event::ClusterHalfHealthy {
            cluster: Arc::clone(&cluster.name),
            healthy: cluster.healthy,
            total: cluster.total,
        });
    }
}

#[cfg(test)]
mod tests;
