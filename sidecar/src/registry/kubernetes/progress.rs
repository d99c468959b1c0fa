//! Which proxies run what: the way from a revision back to the objects that are in it.

use std::collections::BTreeMap;

use crate::fleet::{Fleet, Reach};
use crate::registry::Registry;

/// Revisions that are remembered; a worker that runs an older one counts as behind.
const REVISIONS_MAX: usize = 256;

/// When each cluster came to be what it is, in the order of the registries.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Counts the registries.
    sequence: u64,
    /// Revision → the number of the last registry that had it.
    revisions: BTreeMap<u64, u64>,
    /// Cluster → the number of the first registry that had it as it is now.
    since: BTreeMap<String, u64>,
}

impl Progress {
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

    /// How far a cluster, as it is now, has come.
    pub fn reach(&self, cluster: &str, fleet: &Fleet) -> Reach {
        let Some(since) = self.since.get(cluster) else {
            return Reach::Behind;
        };
        let has = |revision: &u64| {
            let sequence = self.revisions.get(revision);
            sequence.is_some_and(|sequence| sequence >= since)
        };
        let mut reports = fleet.nodes.values().peekable();
        if reports.peek().is_none() {
            return Reach::Unknown;
        }
        match reports.all(|it| !it.revisions.is_empty() && it.revisions.iter().all(has)) {
            true => Reach::Everywhere,
            false => Reach::Behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::{ClusterConfig, ExchangeConfig};
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::fleet::NodeReport;
    use crate::registry::Listing;

    fn registry(weights: &[(&str, u16)]) -> Registry {
        let cluster = |(name, weight): &(&str, u16)| {
            let backend = json!({"address": "10.0.0.1:80", "weight": weight});
            json!({"name": name, "backends": [backend]})
        };
        registry_of(&weights.iter().map(cluster).collect::<Vec<_>>())
    }

    fn registry_of(documents: &[serde_json::Value]) -> Registry {
        let cluster = |document| ClusterConfig::parse(document).expect("valid");
        let listing = Listing {
            clusters: documents.iter().map(cluster).collect(),
            ..Listing::default()
        };
        let exchange = ExchangeConfig {
            cluster: "c".to_owned(),
            token: String::new(),
            verdict_ttl: std::time::Duration::from_secs(1),
        };
        Registry::new(listing, exchange)
    }

    fn running(nodes: &[&[&Registry]]) -> Fleet {
        let mut fleet = Fleet::default();
        for (index, registries) in nodes.iter().enumerate() {
            let report = NodeReport {
                revisions: registries.iter().map(|it| it.revision).collect(),
                workers: 2,
                refused: None,
                seen: Instant::now(),
            };
            fleet.nodes.insert(index.to_string(), report);
        }
        fleet
    }

    #[tokio::test]
    async fn a_cluster_is_everywhere_once_every_worker_has_it_as_it_is() {
        let first = registry(&[("a", 1), ("b", 1)]);
        let second = registry(&[("a", 2), ("b", 1)]);
        let mut progress = Progress::default();
        progress.take(None, &first);
        assert_eq!(progress.reach("a", &running(&[])), Reach::Unknown);
        assert_eq!(
            progress.reach("a", &running(&[&[&first]])),
            Reach::Everywhere
        );
        progress.take(Some(&first), &second);
        let mixed = running(&[&[&second], &[&second, &first]]);
        assert_eq!(progress.reach("a", &mixed), Reach::Behind);
        assert_eq!(
            progress.reach("b", &mixed),
            Reach::Everywhere,
            "it is the same in both"
        );
        assert_eq!(progress.reach("c", &mixed), Reach::Behind, "it is in none");
        let moved = running(&[&[&second], &[&second]]);
        assert_eq!(progress.reach("a", &moved), Reach::Everywhere);
        // A worker that has not said what it runs, or runs what nobody here knows, is behind.
        assert_eq!(progress.reach("b", &running(&[&[]])), Reach::Behind);
        let foreign = registry(&[("x", 9)]);
        assert_eq!(progress.reach("b", &running(&[&[&foreign]])), Reach::Behind);
    }

    #[tokio::test]
    async fn another_probe_is_everywhere_at_once() {
        let document = json!({"name": "a"});
        let probed = json!({"name": "a", "healthCheck": {"tcp": {}}});
        let (first, second) = (registry_of(&[document]), registry_of(&[probed]));
        let mut progress = Progress::default();
        progress.take(None, &first);
        progress.take(Some(&first), &second);
        let before = running(&[&[&first]]);
        assert_eq!(progress.reach("a", &before), Reach::Everywhere);
    }
}
