//! Endpoints that take no new requests any more, while their streams finish (RG-19).

use std::rc::Rc;

use super::heartbeat::Heartbeat;
use crate::base::hash::{KeySet, LoadKey};
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
pub struct Drain {
    leaving: Vec<Draining>,
    /// There were more, of which nothing is known.
    has_missed: bool,
}

impl Drain {
    /// Notes who took requests before and does not any more, and forgets who does again.
    pub fn note(&mut self, before: &Snapshot, after: &Snapshot, since: WallTime) {
        // The same load means the same address in the same cluster.
        let endpoints = after
            .not_shared_with(before)
            .flat_map(|cluster| &cluster.endpoints);
        let staying: KeySet<LoadKey> = endpoints
            .filter(|endpoint| endpoint.normal)
            .map(|endpoint| endpoint.load.key)
            .collect();
        self.leaving.retain(|left| !staying.contains(left.load.key));
        self.has_missed &= !self.leaving.is_empty();
        for cluster in before.not_shared_with(after) {
            for endpoint in cluster.endpoints.iter().filter(|endpoint| endpoint.normal) {
                if staying.contains(endpoint.load.key) {
                    continue;
                }
                if self.leaving.len() >= DRAINING_MAX {
                    self.has_missed = true;
                    return;
                }
                let backend = cluster.backend(endpoint.backend);
                self.leaving.push(Draining {
                    cluster: cluster.name.clone(),
                    backend: backend.map_or_else(Box::default, |backend| backend.id.clone()),
                    address: endpoint.address.clone(),
                    load: endpoint.load.clone(),
                    since,
                });
            }
        }
    }

    /// The keys of their loads.
    pub fn keys(&self) -> KeySet<LoadKey> {
        self.leaving.iter().map(|left| left.load.key).collect()
    }

    /// Whether it knows all that leave.
    pub fn is_complete(&self) -> bool {
        !self.has_missed
    }

    /// Takes out those whose last stream has ended: their servers may be stopped. Nobody is while
    /// the workers are not all settled on a configuration in which they leave, nor while a heartbeat
    /// does not hold all that leave. `settled_at`: they were when what is known of the others' loads was
    /// read, and are. A heartbeat counts here for as long as its revision does: a worker
    /// that is too busy to write still holds the streams that it wrote of last.
    pub fn take_drained(
        &mut self,
        heartbeats: &[Heartbeat],
        settled_at: Option<WallTime>,
        now: WallTime,
    ) -> Vec<Draining> {
        let workers = || heartbeats.iter().filter(|worker| worker.runs(now));
        let Some(known_at) = settled_at else {
            return Vec::new();
        };
        if !workers().all(|worker| worker.holds_leaving) {
            return Vec::new();
        }
        let busy = workers().filter(|worker| !worker.is_live(now));
        let held: KeySet<LoadKey> = busy
            .flat_map(|worker| &worker.loads)
            .filter(|load| load.in_flight > 0)
            .map(|load| load.key)
            .collect();
        let drained = |left: &mut Draining| {
            let known_ns = now.age_of(left.since).saturating_sub(now.age_of(known_at));
            known_ns >= SETTLED_NS
                && left.load.in_flight_everywhere() == 0
                && !held.contains(left.load.key)
        };
        self.leaving.extract_if(.., drained).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::load::{LoadReport, Loads};
    use crate::fleet::heartbeat::{HEARTBEAT_NS, REVISION_NS};
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Later than any heartbeat can be old.
    const NOW: WallTime = WallTime::from_ns(10 * REVISION_NS);

    fn registry(loads: &mut Loads, state: &str) -> Snapshot {
        let clusters = json!([{"name": "orders", "backends": [
            {"id": "a", "address": "10.0.0.1:80", "state": state},
            {"id": "b", "address": "10.0.0.2:80"},
        ]}]);
        compile(&json!({"schema": 1, "clusters": clusters}), loads)
    }

    fn compile(container: &serde_json::Value, loads: &mut Loads) -> Snapshot {
        let json = container.to_string();
        let compiled = Snapshot::compile(json.as_bytes(), &[], loads, WallTime::default(), 1);
        compiled.expect("a good registry")
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
        assert!(drain.take_drained(&[], Some(later), later).is_empty());
        held.end();
        assert!(
            drain
                .take_drained(&[], Some(NOW.plus(SETTLED_NS - 1)), later)
                .is_empty()
        );
        assert_eq!(names(&drain.take_drained(&[], Some(later), later)), ["a"]);
        assert!(
            drain.take_drained(&[], Some(later), later).is_empty(),
            "once"
        );
    }

    #[test]
    fn rg_19_what_was_read_of_the_others_before_it_left_says_nothing() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, NOW);
        let later = NOW.plus(3 * SETTLED_NS);
        let before = WallTime::from_ns(NOW.ns() - 2 * SETTLED_NS);
        for known_at in [before, NOW, NOW.plus(SETTLED_NS - 1)] {
            assert!(drain.take_drained(&[], Some(known_at), later).is_empty());
        }
        let known_at = Some(NOW.plus(SETTLED_NS));
        assert_eq!(names(&drain.take_drained(&[], known_at, later)), ["a"]);
    }

    #[test]
    fn rg_19_who_serves_again_does_not_leave() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, WallTime::default());
        drain.note(&draining, &normal, WallTime::default());
        assert!(
            drain.take_drained(&[], Some(NOW), NOW).is_empty(),
            "it serves"
        );
        drain.note(&normal, &draining, WallTime::default());
        drain.note(&draining, &normal, WallTime::default());
        drain.note(&normal, &draining, WallTime::default());
        assert_eq!(names(&drain.take_drained(&[], Some(NOW), NOW)), ["a"]);
    }

    #[test]
    fn rg_19_nobody_is_drained_while_a_live_heartbeat_may_leave_it_out() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, WallTime::default());
        let heartbeat = |ago_ns, holds_leaving| Heartbeat {
            at: WallTime::from_ns(NOW.ns() - ago_ns),
            holds_leaving,
            ..Heartbeat::default()
        };
        let all = heartbeat(0, true);
        let cut = [all.clone(), heartbeat(0, false)];
        assert!(drain.take_drained(&cut, Some(NOW), NOW).is_empty());
        assert!(
            drain
                .take_drained(std::slice::from_ref(&all), None, NOW)
                .is_empty()
        );
        let over = [all, heartbeat(REVISION_NS, false)];
        assert_eq!(names(&drain.take_drained(&over, Some(NOW), NOW)), ["a"]);
    }

    #[test]
    fn rg_19_a_worker_too_busy_to_write_holds_what_it_held() {
        let mut loads = Loads::default();
        let normal = registry(&mut loads, "Normal");
        let draining = registry(&mut loads, "Draining");
        let mut drain = Drain::default();
        drain.note(&normal, &draining, WallTime::default());
        let report = |in_flight| LoadReport {
            key: normal.clusters()[0].endpoints[0].load.key,
            in_flight,
            estimate_ns: 1,
            average: None,
        };
        let silent_for = |ago_ns, in_flight| Heartbeat {
            at: WallTime::from_ns(NOW.ns() - ago_ns),
            holds_leaving: true,
            loads: vec![report(in_flight)],
            ..Heartbeat::default()
        };
        let busy = silent_for(HEARTBEAT_NS, 1);
        assert!(drain.take_drained(&[busy], Some(NOW), NOW).is_empty());
        let free = [silent_for(HEARTBEAT_NS, 0), silent_for(REVISION_NS, 1)];
        assert_eq!(names(&drain.take_drained(&free, Some(NOW), NOW)), ["a"]);
    }

    #[test]
    fn rg_19_a_vm_that_missed_some_who_leave_knows_it() {
        let many = |count: usize| {
            let backend = |nth| json!({"address": format!("10.0.{}.{}:80", nth / 250, nth % 250)});
            let backends: Vec<serde_json::Value> = (0..count).map(backend).collect();
            json!({"schema": 1, "clusters": [{"name": "orders", "backends": backends}]})
        };
        let mut loads = Loads::default();
        let mut of = |count| compile(&many(count), &mut loads);
        let (none, full, more) = (of(0), of(DRAINING_MAX), of(DRAINING_MAX + 1));
        let mut drain = Drain::default();
        drain.note(&full, &none, NOW);
        assert!(drain.is_complete());
        assert_eq!(drain.keys().iter().count(), DRAINING_MAX);
        drain.note(&more, &none, NOW);
        assert!(!drain.is_complete());
        drain.note(&none, &more, NOW);
        assert!(drain.is_complete(), "they all serve again");
    }
}
