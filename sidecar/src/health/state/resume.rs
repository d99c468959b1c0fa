//! Verdicts of before, in force until probes have decided: those that proxies hand back to a sidecar
//! that has just started, and those on a cluster that left the registry and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::fleet::exchange::ClusterVerdicts;

use super::{Cluster, Health, on_half_healthy};
use crate::model::event::{Event, Origin};

/// Most backends remembered of clusters that have left.
const LEFT_MAX: usize = 65_536;

/// Who was unhealthy in clusters that have left the registry, for as long as a verdict holds.
#[derive(Debug)]
pub(super) struct Left {
    ttl: Duration,
    /// By cluster: until when, and who.
    clusters: BTreeMap<Arc<str>, (Duration, BTreeSet<BackendKey>)>,
}

impl Left {
    pub fn new(ttl: Duration) -> Self {
        let clusters = BTreeMap::new();
        Left { ttl, clusters }
    }

    /// Remembers who was unhealthy in a cluster that leaves now; as many as there is room for.
    pub fn remember(&mut self, cluster: Arc<str>, keys: BTreeSet<BackendKey>, now: Duration) {
        let remembered: usize = self.clusters.values().map(|(_, keys)| keys.len()).sum();
        if !keys.is_empty() && remembered.saturating_add(keys.len()) <= LEFT_MAX {
            let until = now.saturating_add(self.ttl);
            self.clusters.insert(cluster, (until, keys));
        }
    }

    pub fn forget_old(&mut self, now: Duration) {
        self.clusters.retain(|_, (until, _)| *until > now);
    }

    /// Who is known of a cluster that is back.
    pub fn recall(&mut self, cluster: &str) -> BTreeSet<BackendKey> {
        let left = self.clusters.remove(cluster);
        left.map(|(_, keys)| keys).unwrap_or_default()
    }
}

impl Health {
    /// Takes the verdicts that a proxy has of the sidecar before this one.
    pub fn take_back(&mut self, handed: Vec<ClusterVerdicts>) -> Vec<Event> {
        let mut events = Vec::new();
        for ClusterVerdicts {
            name, unhealthy, ..
        } in handed
        {
            let Some((name, mut cluster)) = self.clusters.remove_entry(name.as_str()) else {
                continue;
            };
            let was_half = cluster.half_healthy();
            let unhealthy = unhealthy.into_iter().collect();
            let resumed = self.resume(&mut cluster, &unhealthy, Origin::Proxies, &mut events);
            for key in resumed {
                self.verdicts.set(&name, key, true);
            }
            on_half_healthy(&cluster, was_half, &mut events);
            self.changed.insert(Arc::clone(&name));
            self.clusters.insert(name, cluster);
        }
        events
    }

    /// Lets those backends of a cluster be unhealthy on which its probes have not decided; returns the
    /// keys of those that are so from now on.
    pub(super) fn resume(
        &mut self,
        cluster: &mut Cluster,
        unhealthy: &BTreeSet<BackendKey>,
        origin: Origin,
        events: &mut Vec<Event>,
    ) -> Vec<BackendKey> {
        let mut resumed = Vec::new();
        for number in cluster.targets.values() {
            let Some(target) = self.targets.get_mut(number) else {
                continue;
            };
            let named = target.members.iter().any(|it| unhealthy.contains(&it.key));
            if named && target.thresholds.resume() {
                cluster.healthy = cluster.healthy.saturating_sub(target.normal_members());
                resumed.extend(target.members.iter().map(|member| member.key));
            }
        }
        if !resumed.is_empty() {
            events.push(Event::VerdictsResumed {
                cluster: Arc::clone(&cluster.name),
                backends: resumed.len(),
                origin,
            });
        }
        resumed
    }
}
