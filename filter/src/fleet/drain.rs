//! Endpoints that take no new requests any more, while their streams finish (RG-19).

use std::rc::Rc;

use crate::base::keyed::KeySet;
use crate::cluster::load::Load;
use crate::cluster::snapshot::Registry;
use crate::fleet::heartbeat::Card;

/// Most endpoints whose last streams are waited for at a time.
const LEAVING_MAX: usize = 1000;
/// Time for every worker to have a card, after which "no card" means no worker.
const SETTLED_NS: u64 = 500_000_000;

/// One that leaves.
#[derive(Debug)]
pub struct Leaving {
    /// Its cluster's name.
    pub cluster: Box<str>,
    /// Its backend's id.
    pub backend: Box<str>,
    /// `ip:port`.
    pub address: Box<str>,
    load: Rc<Load>,
    since_ns: u64,
}

/// All that leave, as one VM knows them.
#[derive(Debug, Default)]
pub struct Leavers(Vec<Leaving>);

impl Leavers {
    /// Notes who took requests before and does not any more, and forgets who does again.
    pub fn note(&mut self, before: &Registry, after: &Registry, since_ns: u64) {
        // The same load means the same address in the same cluster.
        let endpoints = after
            .clusters()
            .iter()
            .flat_map(|cluster| &cluster.endpoints);
        let staying: KeySet = endpoints
            .filter(|endpoint| endpoint.normal)
            .map(|endpoint| endpoint.load.key)
            .collect();
        self.0.retain(|left| !staying.contains(left.load.key));
        for cluster in before.clusters() {
            for endpoint in cluster.endpoints.iter().filter(|endpoint| endpoint.normal) {
                if self.0.len() >= LEAVING_MAX || staying.contains(endpoint.load.key) {
                    continue;
                }
                let backend = cluster.backend(endpoint.backend);
                self.0.push(Leaving {
                    cluster: cluster.name.clone(),
                    backend: backend.map_or_else(Box::default, |backend| backend.id.clone()),
                    address: endpoint.address.clone(),
                    load: endpoint.load.clone(),
                    since_ns,
                });
            }
        }
    }

    /// Takes out those whose last stream has ended: their servers may be stopped. Nobody is while
    /// some worker's word is missing: one that is busy, or that runs another revision and may still
    /// pick them. A worker is known by its card for as long as that counts as running a revision.
    pub fn take_drained(&mut self, cards: &[Card], revision: u64, now_ns: u64) -> Vec<Leaving> {
        let mut workers = cards.iter().filter(|card| card.runs(now_ns));
        if !workers.all(|card| card.is_live(now_ns) && card.revision == revision) {
            return Vec::new();
        }
        let drained = |left: &mut Leaving| {
            now_ns.saturating_sub(left.since_ns) >= SETTLED_NS
                && left.load.in_flight_everywhere() == 0
        };
        self.0.extract_if(.., drained).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;
    use crate::cluster::load::Loads;
    use crate::config::FilterConfig;
    use crate::fleet::heartbeat::{HEARTBEAT_NS, REVISION_NS};
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Later than any card can be old.
    const NOW: u64 = 10 * REVISION_NS;
    const REVISION: u64 = 7;

    fn registry(loads: &mut Loads, state: &str) -> Registry {
        let clusters = json!([{"name": "orders", "backends": [
            {"id": "a", "address": "10.0.0.1:80", "state": state},
            {"id": "b", "address": "10.0.0.2:80"},
        ]}]);
        let json = json!({"schema": 1, "clusters": clusters}).to_string();
        let config = FilterConfig::parse(json.as_bytes()).expect("a good registry");
        Registry::compile(&config, loads, 0, &mut SplitMix64::new(1))
    }

    fn card(at_ns: u64, revision: u64) -> Card {
        Card {
            vm: 1,
            at_ns,
            revision,
            words: Vec::new(),
        }
    }

    fn names(drained: &[Leaving]) -> Vec<&str> {
        drained.iter().map(|left| &*left.backend).collect()
    }

    #[test]
    fn rg_19_the_last_stream_is_waited_for_and_told_once() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let held = &normal.clusters()[0].endpoints[0].load;
        held.begin();
        let mut leavers = Leavers::default();
        leavers.note(&normal, &draining, NOW);
        let later = NOW + SETTLED_NS;
        assert!(leavers.take_drained(&[], 0, later).is_empty());
        held.end();
        assert!(leavers.take_drained(&[], 0, later - 1).is_empty());
        assert_eq!(names(&leavers.take_drained(&[], 0, later)), ["a"]);
        assert!(leavers.take_drained(&[], 0, later).is_empty(), "once");
    }

    #[test]
    fn rg_19_who_serves_again_does_not_leave() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut leavers = Leavers::default();
        leavers.note(&normal, &draining, 0);
        leavers.note(&draining, &normal, 0);
        assert!(leavers.take_drained(&[], 0, NOW).is_empty(), "it serves");
        leavers.note(&normal, &draining, 0);
        leavers.note(&draining, &normal, 0);
        leavers.note(&normal, &draining, 0);
        assert_eq!(names(&leavers.take_drained(&[], 0, NOW)), ["a"]);
    }

    #[test]
    fn rg_19_nobody_is_drained_while_a_workers_word_is_missing() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut leavers = Leavers::default();
        leavers.note(&normal, &draining, 0);
        let fresh = card(NOW, REVISION);
        for missing in [
            card(NOW - HEARTBEAT_NS, REVISION),
            card(NOW - REVISION_NS + 1, REVISION),
            card(NOW, REVISION - 1),
        ] {
            let cards = [fresh.clone(), missing];
            assert!(leavers.take_drained(&cards, REVISION, NOW).is_empty());
        }
        let cards = [fresh, card(NOW - REVISION_NS, REVISION - 1)];
        let drained = leavers.take_drained(&cards, REVISION, NOW);
        assert_eq!(names(&drained), ["a"], "the other is no worker any more");
    }
}
