//! Endpoints that take no new requests any more, while their streams finish (RG-19).

use std::rc::Rc;

use super::heartbeat::Heartbeat;
use crate::base::hash::KeySet;
use crate::base::time::WallTime;
use crate::cluster::load::Load;
use crate::cluster::snapshot::Snapshot;

/// Most endpoints whose last streams are waited for at a time.
const DRAINING_MAX: usize = 1000;
/// Time for every worker to have a heartbeat, after which "no heartbeat" means no worker.
const SETTLED_NS: u64 = 500_000_000;

/// One that leaves.
#[derive(Debug)]
pub struct Draining {
    /// Its cluster's name.
    pub cluster: Box<str>,
    /// Its backend's id.
    pub backend: Box<str>,
    /// `ip:port`.
    pub address: Box<str>,
    load: Rc<Load>,
    since: WallTime,
}

/// All that leave, as one VM knows them.
#[derive(Debug, Default)]
pub struct Drain(Vec<Draining>);

impl Drain {
    /// Notes who took requests before and does not any more, and forgets who does again.
    pub fn note(&mut self, before: &Snapshot, after: &Snapshot, since: WallTime) {
        // The same load means the same address in the same cluster.
        let endpoints = after
            .not_shared_with(before)
            .flat_map(|cluster| &cluster.endpoints);
        let staying: KeySet = endpoints
            .filter(|endpoint| endpoint.normal)
            .map(|endpoint| endpoint.load.key)
            .collect();
        self.0.retain(|left| !staying.contains(left.load.key));
        for cluster in before.not_shared_with(after) {
            for endpoint in cluster.endpoints.iter().filter(|endpoint| endpoint.normal) {
                if self.0.len() >= DRAINING_MAX || staying.contains(endpoint.load.key) {
                    continue;
                }
                let backend = cluster.backend(endpoint.backend);
                self.0.push(Draining {
                    cluster: cluster.name.clone(),
                    backend: backend.map_or_else(Box::default, |backend| backend.id.clone()),
                    address: endpoint.address.clone(),
                    load: endpoint.load.clone(),
                    since,
                });
            }
        }
    }

    /// Takes out those whose last stream has ended: their servers may be stopped. Nobody is while
    /// some worker's heartbeat is missing: one that is busy, or that runs another revision and still
    /// picks. A worker is known by its heartbeat for as long as that counts as running a revision.
    pub fn take_drained(
        &mut self,
        heartbeats: &[Heartbeat],
        revision: u64,
        now: WallTime,
    ) -> Vec<Draining> {
        let mut workers = heartbeats
            .iter()
            .filter(|heartbeat| heartbeat.runs(now) && !heartbeat.is_left_behind(revision, now));
        if !workers.all(|heartbeat| heartbeat.is_live(now) && heartbeat.revision == revision) {
            return Vec::new();
        }
        let drained = |left: &mut Draining| {
            now.age_of(left.since) >= SETTLED_NS && left.load.in_flight_everywhere() == 0
        };
        self.0.extract_if(.., drained).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::load::Loads;
    use crate::fleet::heartbeat::{HEARTBEAT_NS, REVISION_NS};
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Later than any heartbeat can be old.
    const NOW: WallTime = WallTime::from_ns(10 * REVISION_NS);
    const REVISION: u64 = 7;

    fn registry(loads: &mut Loads, state: &str) -> Snapshot {
        let clusters = json!([{"name": "orders", "backends": [
            {"id": "a", "address": "10.0.0.1:80", "state": state},
            {"id": "b", "address": "10.0.0.2:80"},
        ]}]);
        let json = json!({"schema": 1, "clusters": clusters}).to_string();
        let compiled = Snapshot::compile(json.as_bytes(), &[], loads, WallTime::default(), 1);
        compiled.expect("a good registry")
    }

    fn heartbeat(ago_ns: u64, revision: u64) -> Heartbeat {
        Heartbeat {
            vm: 1,
            at: WallTime::from_ns(NOW.ns() - ago_ns),
            revision,
            picked_at: NOW,
            ..Heartbeat::default()
        }
    }

    fn names(drained: &[Draining]) -> Vec<&str> {
        drained.iter().map(|left| &*left.backend).collect()
    }

    #[test]
    fn rg_19_the_last_stream_is_waited_for_and_told_once() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let held = &normal.clusters()[0].endpoints[0].load;
        held.begin();
        let mut drain = Drain::default();
        drain.note(&normal, &draining, NOW);
        let later = NOW.plus(SETTLED_NS);
        assert!(drain.take_drained(&[], 0, later).is_empty());
        held.end();
        assert!(
            drain
                .take_drained(&[], 0, NOW.plus(SETTLED_NS - 1))
                .is_empty()
        );
        assert_eq!(names(&drain.take_drained(&[], 0, later)), ["a"]);
        assert!(drain.take_drained(&[], 0, later).is_empty(), "once");
    }

    #[test]
    fn rg_19_who_serves_again_does_not_leave() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, WallTime::default());
        drain.note(&draining, &normal, WallTime::default());
        assert!(drain.take_drained(&[], 0, NOW).is_empty(), "it serves");
        drain.note(&normal, &draining, WallTime::default());
        drain.note(&draining, &normal, WallTime::default());
        drain.note(&normal, &draining, WallTime::default());
        assert_eq!(names(&drain.take_drained(&[], 0, NOW)), ["a"]);
    }

    #[test]
    fn rg_19_nobody_is_drained_while_a_workers_heartbeat_is_missing() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, WallTime::default());
        let fresh = heartbeat(0, REVISION);
        for missing in [
            heartbeat(HEARTBEAT_NS, REVISION),
            heartbeat(REVISION_NS - 1, REVISION),
            heartbeat(0, REVISION - 1),
        ] {
            let heartbeats = [fresh.clone(), missing];
            assert!(drain.take_drained(&heartbeats, REVISION, NOW).is_empty());
        }
        let left_behind = Heartbeat {
            picked_at: WallTime::default(),
            ..heartbeat(0, REVISION - 1)
        };
        let gone = heartbeat(REVISION_NS, REVISION - 1);
        let heartbeats = [fresh, gone, left_behind];
        let drained = drain.take_drained(&heartbeats, REVISION, NOW);
        assert_eq!(names(&drained), ["a"], "the others are no workers any more");
    }
}
