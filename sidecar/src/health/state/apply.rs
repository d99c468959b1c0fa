//! How the prober takes a new registry: what stays, what starts fresh, what is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::base::hash;
use pointsman_filter::config::{BackendConfig, ClusterConfig, HealthCheck};

use super::super::schedule;
use super::super::target::{
    Cluster, Member, Plan, Seen, Target, TargetNumber, by_address, share_identity,
};
use super::super::thresholds::Thresholds;
use super::super::verdicts::Unhealthy;
use super::{Health, on_half_healthy};
use crate::model::event::{Event, Origin, Recovery};

/// A target as it was in the registry before.
struct Old {
    number: TargetNumber,
    target: Target,
    due: Option<Duration>,
}

/// What the check of a cluster has in common with the one before.
#[derive(Clone, Copy, Default)]
struct Same {
    plan: bool,
    interval: bool,
}

impl Health {
    /// Takes a new registry. A backend that stays keeps its verdict, a new id at an address that is
    /// asked the same as before takes that address's, and so does one of a cluster that is back; any
    /// other new one is healthy. Where the check or its interval changed, the schedule starts anew.
    pub fn apply(
        &mut self,
        clusters: &[ClusterConfig],
        revision: u64,
        now: Duration,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        self.left.forget_old(now);
        let mut old_clusters = std::mem::take(&mut self.clusters);
        self.changed.extend(old_clusters.keys().cloned());
        for config in clusters {
            let old = old_clusters.remove(config.name.as_str());
            let was_half = old.as_ref().is_some_and(Cluster::half_healthy);
            let before = match &old {
                Some(_) => BTreeSet::new(),
                None => self.left.recall(&config.name),
            };
            let mut cluster = self.apply_cluster(config, old, now, &mut events);
            self.resume(&mut cluster, &before, Origin::Return, &mut events);
            on_half_healthy(&cluster, was_half, &mut events);
            self.changed.insert(Arc::clone(&cluster.name));
            self.clusters.insert(Arc::clone(&cluster.name), cluster);
        }
        for (name, old) in old_clusters {
            let gone = old.targets.into_values();
            let gone = gone.filter_map(|number| self.take_target(number));
            let unhealthy = gone.filter(|old| !old.target.thresholds.healthy());
            let keys = unhealthy.flat_map(|old| old.target.members);
            let keys = keys.map(|member| member.key).collect();
            self.left.remember(name, keys, now);
        }
        let keys = |name: &str| {
            let named = clusters.iter().filter(|cluster| cluster.name == name);
            let backends = named.flat_map(|cluster| &cluster.backends);
            backends.map(BackendConfig::key).collect()
        };
        self.verdicts.replace(revision, self.unhealthy(), keys);
        events
    }

    fn apply_cluster(
        &mut self,
        config: &ClusterConfig,
        old: Option<Cluster>,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Cluster {
        let (old_check, mut old_targets) =
            old.map_or((None, BTreeMap::new()), |old| (old.check, old.targets));
        let check = config.health_check.clone().map(|check| {
            let plan = Arc::new(Plan::of(config, &check));
            (check, plan)
        });
        let same = match (&old_check, &check) {
            (Some((old, old_plan)), Some((new, new_plan))) => Same {
                plan: old_plan == new_plan,
                interval: old.interval == new.interval,
            },
            _ => Same::default(),
        };
        let mut cluster = Cluster {
            name: Arc::from(config.name.as_str()),
            check,
            targets: BTreeMap::new(),
            total: 0,
            healthy: 0,
            obstructed: 0,
            under_way: 0,
        };
        for (address, members) in by_address(&config.backends) {
            let old = old_targets
                .remove(&address)
                .and_then(|number| self.take_target(number));
            // What an address answers to one question it answers under another id as well.
            let old = old.filter(|old| same.plan || share_identity(&old.target.members, &members));
            let target = self.fresh_target(&cluster.name, address, members);
            let normal = target.normal_members();
            cluster.total += normal;
            if let Some((check, _)) = &cluster.check {
                let (number, healthy) = self.place_target(target, old, same, check, now);
                cluster.healthy += if healthy { normal } else { 0 };
                cluster.under_way += usize::from(self.awaits(number));
                cluster.targets.insert(address, number);
            } else {
                cluster.healthy += normal;
                events.extend(restored(&target, old));
            }
        }
        for number in old_targets.into_values() {
            self.take_target(number);
        }
        cluster
    }

    /// Puts a target in its place, with what stays of the one that was there; returns its number
    /// and verdict.
    fn place_target(
        &mut self,
        mut target: Target,
        old: Option<Old>,
        same: Same,
        check: &HealthCheck,
        now: Duration,
    ) -> (TargetNumber, bool) {
        let mut kept = None;
        let mut due = None;
        if let Some(old) = old {
            target.thresholds = old.target.thresholds;
            target.seen = old.target.seen;
            if same.plan && old.target.probed() == target.probed() {
                target.started = old.target.started;
                kept = Some(old.number);
                due = old.due.filter(|_| same.interval);
            } else {
                target.thresholds.restart();
            }
        }
        let number = kept.unwrap_or_else(|| {
            self.last_number += 1;
            self.last_number
        });
        if target.probed() && target.started.is_none() {
            let delay = schedule::first_delay(check.interval, target.draw.rotate_left(32));
            let due = due.unwrap_or(now.saturating_add(delay));
            self.schedule.set(&target.cluster, number, due);
        }
        let healthy = target.thresholds.healthy();
        self.targets.insert(number, target);
        (number, healthy)
    }

    fn fresh_target(&self, name: &Arc<str>, address: SocketAddr, members: Vec<Member>) -> Target {
        Target {
            cluster: Arc::clone(name),
            address,
            members,
            thresholds: Thresholds::pristine(),
            draw: hash::backend_key(name, &address.to_string()).0 ^ self.seed,
            started: None,
            obstructed: false,
            seen: Seen::default(),
        }
    }

    fn take_target(&mut self, number: TargetNumber) -> Option<Old> {
        let due = self.schedule.remove(number);
        let target = self.targets.remove(&number)?;
        Some(Old {
            number,
            target,
            due,
        })
    }

    fn unhealthy(&self) -> Unhealthy {
        let mut unhealthy = Unhealthy::new();
        for target in self
            .targets
            .values()
            .filter(|target| !target.thresholds.healthy())
        {
            let keys = unhealthy.entry(Arc::clone(&target.cluster)).or_default();
            Arc::make_mut(keys).extend(target.members.iter().map(|member| member.key));
        }
        unhealthy
    }
}

/// The backends that were unhealthy while there was a health check (HC-15).
fn restored(target: &Target, old: Option<Old>) -> Vec<Event> {
    let Some(old) = old.filter(|old| !old.target.thresholds.healthy()) else {
        return Vec::new();
    };
    let was_there = |member: &&Member| old.target.members.iter().any(|old| old.key == member.key);
    let healthy = |member: &Member| Event::BackendHealthy {
        cluster: Arc::clone(&target.cluster),
        backend: Arc::clone(&member.id),
        address: target.address,
        reason: Recovery::CheckRemoved,
    };
    target
        .members
        .iter()
        .filter(was_there)
        .map(healthy)
        .collect()
}
