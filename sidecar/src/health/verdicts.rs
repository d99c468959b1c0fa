//! The table of verdicts, and what a filter that has an older one must be told.
//!
//! Only unhealthy backends stand in it. A filter that has an earlier state of the same epoch and
//! revision gets what changed since, every other one the full set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::fleet::exchange::{Answer, ClusterVerdicts, Version};

/// Most changes remembered; a filter that is further behind gets the full set.
const HISTORY_MAX: usize = 4096;

/// Per cluster, the keys of the unhealthy backends; clusters without any do not stand in it.
pub type Unhealthy = BTreeMap<Arc<str>, Arc<BTreeSet<BackendKey>>>;

#[derive(Debug, Clone)]
struct Change {
    counter: u64,
    cluster: Arc<str>,
    key: BackendKey,
    unhealthy: bool,
}

/// The verdicts of one sidecar incarnation. A copy shares what is long.
#[derive(Debug, Clone)]
pub struct Verdicts {
    version: Version,
    unhealthy: Unhealthy,
    /// Those among them that the registry has lost with its last change.
    left: Unhealthy,
    /// What led to the present state, oldest first, all within the present revision.
    history: VecDeque<Change>,
}

impl Verdicts {
    /// No verdicts yet. `epoch` is random, so that no filter takes another incarnation's for ours.
    pub fn new(epoch: u64) -> Self {
        let version = Version {
            epoch,
            ..Version::default()
        };
        Verdicts {
            version,
            unhealthy: Unhealthy::new(),
            left: Unhealthy::new(),
            history: VecDeque::new(),
        }
    }

    /// What the table's state is called.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether a registry was read, so that no verdict means healthy and not unknown.
    pub fn ready(&self) -> bool {
        self.version.counter > 0
    }

    /// Sets the verdict on one backend.
    pub fn set(&mut self, cluster: &Arc<str>, key: BackendKey, unhealthy: bool) {
        let keys = self.unhealthy.entry(Arc::clone(cluster)).or_default();
        let keys = Arc::make_mut(keys);
        let changed = if unhealthy {
            keys.insert(key)
        } else {
            keys.remove(&key)
        };
        if keys.is_empty() {
            self.unhealthy.remove(cluster);
        }
        if !changed {
            return;
        }
        self.version.counter += 1;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Change {
            counter: self.version.counter,
            cluster: Arc::clone(cluster),
            key,
            unhealthy,
        });
    }

    /// Puts the verdicts of a new registry in the place of all there were; `has` tells which keys a
    /// cluster of it has. Verdicts on backends that are gone stand until the next one: workers hear
    /// them before they run the change, and would take no verdict for a good one.
    pub fn replace(
        &mut self,
        revision: u64,
        mut unhealthy: Unhealthy,
        has: impl Fn(&str) -> BTreeSet<BackendKey>,
    ) {
        let mut left = Unhealthy::new();
        for (cluster, keys) in &self.unhealthy {
            let (has, before) = (has(cluster), self.left.get(cluster));
            let was_here = |key: &&BackendKey| before.is_none_or(|left| !left.contains(key));
            let gone = keys.difference(&has).filter(was_here).copied();
            let gone: BTreeSet<BackendKey> = gone.collect();
            if !gone.is_empty() {
                let keys = unhealthy.entry(Arc::clone(cluster)).or_default();
                Arc::make_mut(keys).extend(&gone);
                left.insert(Arc::clone(cluster), Arc::new(gone));
            }
        }
        self.left = left;
        let same = self.version.revision == revision && self.unhealthy == unhealthy;
        if same && self.ready() {
            return;
        }
        self.version.revision = revision;
        self.version.counter += 1;
        self.unhealthy = unhealthy;
        self.history.clear();
    }

    /// What a filter with `have` must be told; `None` when it has it all.
    pub fn answer(&self, have: Version) -> Option<Answer> {
        if have == self.version {
            return None;
        }
        let clusters = self.delta(have);
        Some(Answer {
            version: self.version,
            full: clusters.is_none(),
            clusters: clusters.unwrap_or_else(|| self.full()),
            hand_back: false,
        })
    }

    fn full(&self) -> Vec<ClusterVerdicts> {
        let cluster = |(name, keys): (&Arc<str>, &Arc<BTreeSet<BackendKey>>)| ClusterVerdicts {
            name: name.to_string(),
            unhealthy: keys.iter().copied().collect(),
            healthy: Vec::new(),
        };
        self.unhealthy.iter().map(cluster).collect()
    }

    /// What changed since `have`, or `None` where that is not known.
    fn delta(&self, have: Version) -> Option<Vec<ClusterVerdicts>> {
        let now = self.version;
        let same_line = have.epoch == now.epoch && have.revision == now.revision;
        let oldest = self.history.front()?.counter;
        // The change after `have` must still be remembered.
        if !same_line || have.counter > now.counter || have.counter.saturating_add(1) < oldest {
            return None;
        }
        let mut changed: BTreeMap<&str, BTreeMap<BackendKey, bool>> = BTreeMap::new();
        for change in &self.history {
            if change.counter > have.counter {
                let keys = changed.entry(&change.cluster).or_default();
                keys.insert(change.key, change.unhealthy);
            }
        }
        let cluster = |(name, keys): (&str, BTreeMap<BackendKey, bool>)| {
            let (bad, good): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(_, bad)| *bad);
            ClusterVerdicts {
                name: name.to_owned(),
                unhealthy: bad.into_iter().map(|(key, _)| key).collect(),
                healthy: good.into_iter().map(|(key, _)| key).collect(),
            }
        };
        Some(changed.into_iter().map(cluster).collect())
    }
}

#[cfg(test)]
mod tests;
