//! Which revisions there were, and since which of them each cluster is what it is.

use std::collections::BTreeMap;

use super::model::Registry;

/// Revisions that are remembered; a worker that runs an older one counts as behind.
const REVISIONS_MAX: usize = 256;

/// When each cluster came to be what it is, in the order of the registries.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Counts the registries.
    sequence: u64,
    /// Revision → the number of the last registry that had it.
    revisions: BTreeMap<u64, u64>,
    /// Cluster → the number of the first registry that had it as it is now.
    since: BTreeMap<String, u64>,
}

impl History {
    /// Takes in the registry that is served from now on.
    pub fn take(&mut self, last: Option<&Registry>, next: &Registry) {
        self.sequence += 1;
        self.revisions.insert(next.revision, self.sequence);
        while self.revisions.len() > REVISIONS_MAX {
            let oldest = self.revisions.iter().min_by_key(|(_, sequence)| **sequence);
            let Some(oldest) = oldest.map(|(revision, _)| *revision) else {
                break;
            };
            self.revisions.remove(&oldest);
        }
        let before = last.map_or(&[][..], |last| last.config.clusters.as_slice());
        let before: BTreeMap<&str, _> = before.iter().map(|it| (it.name.as_str(), it)).collect();
        let mut since = BTreeMap::new();
        for cluster in &next.config.clusters {
            let same = before.get(cluster.name.as_str()) == Some(&cluster);
            let old = self.since.get(&cluster.name).filter(|_| same);
            since.insert(cluster.name.clone(), old.copied().unwrap_or(self.sequence));
        }
        self.since = since;
    }

    /// Whether the latest registry has this cluster.
    pub fn knows(&self, cluster: &str) -> bool {
        self.since.contains_key(cluster)
    }

    /// Whether the cluster stood in that revision just as it is now.
    pub fn holds(&self, cluster: &str, revision: u64) -> bool {
        let sequences = self.revisions.get(&revision).zip(self.since.get(cluster));
        sequences.is_some_and(|(sequence, since)| sequence >= since)
    }
}
