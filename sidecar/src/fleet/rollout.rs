//! Which revision runs where: how far a change has come among the proxies.

use super::reports::Fleet;
use crate::registry::history::History;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every worker that reports obeys it.
    Everywhere,
    /// Some do not yet.
    Behind,
    /// Nobody reports.
    Unknown,
}

impl Reach {
    /// Its name, as users see it.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Everywhere => "Everywhere",
            Reach::Behind => "Behind",
            Reach::Unknown => "Unknown",
        }
    }
}

/// How far a cluster, as it is in the latest registry, has come.
pub fn reach(history: &History, cluster: &str, fleet: &Fleet) -> Reach {
    if fleet.nodes.is_empty() {
        return match history.knows(cluster) {
            true => Reach::Unknown,
            false => Reach::Behind,
        };
    }
    let runs = |revision: &u64| history.holds(cluster, *revision);
    // Who serves nothing sends no request to the wrong place.
    let mut reports = fleet.reports().filter(|it| !it.idle);
    match reports.all(|it| !it.revisions.is_empty() && it.revisions.iter().all(runs)) {
        true => Reach::Everywhere,
        false => Reach::Behind,
    }
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::{ClusterConfig, ExchangeConfig};
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::fleet::ProcessReport;
    use crate::registry::Registry;
    use crate::registry::model::Listing;

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

    /// Every entry is a process of its own, of one node.
    fn running(processes: &[&[&Registry]]) -> Fleet {
        let mut fleet = Fleet::default();
        for (index, registries) in (1..).zip(processes) {
            let report = ProcessReport {
                revisions: registries.iter().map(|it| it.revision).collect(),
                workers: 2,
                refused: None,
                written: None,
                since: Instant::now(),
                seen: Instant::now(),
                unserving: None,
                idle: false,
                asks_left: 0,
            };
            let node = fleet.nodes.entry("edge".to_owned()).or_default();
            node.processes.insert(Some(index), report);
        }
        fleet
    }

    #[tokio::test]
    async fn a_cluster_is_everywhere_once_every_worker_has_it_as_it_is() {
        let first = registry(&[("a", 1), ("b", 1)]);
        let second = registry(&[("a", 2), ("b", 1)]);
        let mut history = History::default();
        history.take(None, &first);
        assert_eq!(reach(&history, "a", &running(&[])), Reach::Unknown);
        assert_eq!(
            reach(&history, "a", &running(&[&[&first]])),
            Reach::Everywhere
        );
        history.take(Some(&first), &second);
        let mixed = running(&[&[&second], &[&second, &first]]);
        assert_eq!(reach(&history, "a", &mixed), Reach::Behind);
        assert_eq!(
            reach(&history, "b", &mixed),
            Reach::Everywhere,
            "it is the same in both"
        );
        assert_eq!(reach(&history, "c", &mixed), Reach::Behind, "it is in none");
        let moved = running(&[&[&second], &[&second]]);
        assert_eq!(reach(&history, "a", &moved), Reach::Everywhere);
        // A worker that has not said what it runs, or runs what nobody here knows, is behind.
        let mut unserving = running(&[&[], &[&second]]);
        assert_eq!(reach(&history, "a", &unserving), Reach::Behind);
        let node = unserving.nodes.get_mut("edge").expect("the node");
        node.processes.get_mut(&Some(1)).expect("its process").idle = true;
        assert_eq!(reach(&history, "a", &unserving), Reach::Everywhere);
        let foreign = registry(&[("x", 9)]);
        assert_eq!(
            reach(&history, "b", &running(&[&[&foreign]])),
            Reach::Behind
        );
    }

    #[tokio::test]
    async fn another_probe_is_everywhere_at_once() {
        let document = json!({"name": "a"});
        let probed = json!({"name": "a", "healthCheck": {"tcp": {}}});
        let (first, second) = (registry_of(&[document]), registry_of(&[probed]));
        let mut history = History::default();
        history.take(None, &first);
        history.take(Some(&first), &second);
        let before = running(&[&[&first]]);
        assert_eq!(reach(&history, "a", &before), Reach::Everywhere);
    }
}
