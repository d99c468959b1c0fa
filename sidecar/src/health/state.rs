//! The prober's rules: a registry and results in; probes to make, verdicts and events out.
//!
//! Nothing here waits, connects or logs. `now` is the time since the start of the sidecar.

mod apply;
mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::{self, Schedule};
use super::target::{Cluster, Job, Member, Target, TargetNumber};
use super::verdicts::Verdicts;
use super::view::{BackendHealth, ClusterHealth, HealthView, TargetHealth};
use crate::model::event::{Event, Recovery};
use crate::model::outcome::Outcome;
use resume::Left;

/// So many times the free places is the most that one cluster may have under way. Clusters of which
/// nobody answers never fill the last ones so, however many they are: the others find a free place
/// and wait for no deadline.
const SHARE: usize = 3;

/// Everything the prober knows.
#[derive(Debug)]
pub struct Health {
    seed: u64,
    clusters: BTreeMap<Arc<str>, Cluster>,
    targets: BTreeMap<TargetNumber, Target>,
    last_number: TargetNumber,
    schedule: Schedule,
    verdicts: Verdicts,
    /// Who was unhealthy in clusters that have left the registry.
    left: Left,
    /// As it was drawn last, and the clusters of which something is new since.
    view: HealthView,
    changed: BTreeSet<Arc<str>>,
}

impl Health {
    /// Nothing known. `seed` and `epoch` are random: one places the targets in time, the other
    /// tells this incarnation's verdicts from another's. Verdicts that nobody renews hold for `ttl`.
    pub fn new(seed: u64, epoch: u64, ttl: Duration) -> Self {
        Health {
            seed,
            clusters: BTreeMap::new(),
            targets: BTreeMap::new(),
            last_number: 0,
            schedule: Schedule::default(),
            verdicts: Verdicts::new(epoch),
            left: Left::new(ttl),
            view: HealthView::default(),
            changed: BTreeSet::new(),
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

    /// When the next probe is due that may be made while so many places are free.
    pub fn next_due(&self, free: usize) -> Option<Duration> {
        let may = |name: &str| under_way(&self.clusters, name, free).is_some();
        self.schedule.next(may)
    }

    /// What pages show. Clusters of which nothing is new are as they were drawn before.
    pub fn view(&mut self) -> Arc<HealthView> {
        for name in std::mem::take(&mut self.changed) {
            match self.draw(&name) {
                Some(cluster) => self.view.clusters.insert(name, Arc::new(cluster)),
                None => self.view.clusters.remove(&name),
            };
        }
        self.view.version = self.verdicts.version();
        Arc::new(self.view.clone())
    }

    fn draw(&self, name: &str) -> Option<ClusterHealth> {
        let cluster = self.clusters.get(name)?;
        let target = |(address, number): (&SocketAddr, &TargetNumber)| {
            let target = self.targets.get(number)?;
            let health = BackendHealth {
                healthy: target.thresholds.healthy(),
                failures: target.thresholds.failures(),
                last_failure: target.seen.failure,
                last_check: target.seen.checked,
            };
            let members = target.members.iter().filter(|member| member.normal);
            let ids = members.map(|member| Arc::clone(&member.id)).collect();
            Some((*address, TargetHealth { health, ids }))
        };
        Some(ClusterHealth {
            name: Arc::clone(&cluster.name),
            probed: cluster.check.is_some(),
            total: cluster.total,
            healthy: cluster.healthy,
            half_healthy: cluster.half_healthy(),
            targets: cluster.targets.iter().filter_map(target).collect(),
        })
    }

    /// Takes out of the schedule what is due, at most `free` of it: of who has the fewest probes
    /// under way, and of each longest due first.
    pub fn start_due(&mut self, now: Duration, free: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        while jobs.len() < free
            && let Some((number, due)) = self.pop_due(now, free.saturating_sub(jobs.len()))
        {
            let Some(target) = self.targets.get_mut(&number) else {
                continue;
            };
            let Some(cluster) = self.clusters.get_mut(&target.cluster) else {
                continue;
            };
            let Some((check, plan)) = cluster.check.as_ref() else {
                continue;
            };
            target.started = Some(now);
            cluster.under_way += 1;
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

    fn pop_due(&mut self, now: Duration, free: usize) -> Option<(TargetNumber, Duration)> {
        let clusters = &self.clusters;
        let under_way = |name: &str| under_way(clusters, name, free);
        self.schedule.pop(now, under_way)
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
        cluster.under_way = cluster.under_way.saturating_sub(1);
        self.changed.insert(Arc::clone(&target.cluster));
        let gap = schedule::gap(interval, target.draw);
        let due = started.saturating_add(gap).max(now);
        self.schedule.set(&target.cluster, number, due);
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

/// How many probes of a cluster are under way; `None`: it may have no more.
fn under_way(clusters: &BTreeMap<Arc<str>, Cluster>, name: &str, free: usize) -> Option<usize> {
    let count = clusters.get(name).map_or(0, |cluster| cluster.under_way);
    Some(count).filter(|count| *count < free.saturating_mul(SHARE))
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
