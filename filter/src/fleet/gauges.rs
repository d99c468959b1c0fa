//! What the gauges of the clusters were set to, as one VM knows it. The gauges are the whole
//! Envoy's, and the VM that has the lease sets them.

use std::rc::Rc;

use crate::base::hash::{ClusterKey, KeyMap};
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::gates::{Gates, availability};

/// A VM without the lease notes no more clusters that are gone than this.
const NOTED_MAX: usize = 1000;
/// What is held against a cluster's backends stays so long after the cluster is gone, nanoseconds: it may
/// come back.
const KEPT_NS: u64 = 600_000_000_000;

/// What the gauges of one cluster say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GaugeValues {
    /// Backends that are available (GT-9).
    pub available: u32,
    /// Backends there are.
    pub total: u32,
    /// Backends that are inside a cooldown.
    pub cooling: u32,
    /// Requests are sent to the unhealthy.
    pub fail_open: bool,
    /// No backend is available.
    pub all_down: bool,
}

impl GaugeValues {
    /// What they are to say while these gates stand.
    pub fn of(cluster: &Cluster, gates: &Gates, now: WallTime) -> Self {
        let (available, total) = availability::count_available(cluster, gates);
        GaugeValues {
            available,
            total,
            cooling: availability::count_cooling(cluster, gates, now),
            fail_open: gates.fail_open,
            all_down: gates.all_down,
        }
    }
}

/// A cluster's name, and what its gauges were set to; `None`: others may have set them since.
type Entry = (Box<str>, Option<GaugeValues>);

/// The gauges that were set, by cluster key.
#[derive(Debug, Default)]
pub struct Gauges {
    set: KeyMap<Entry>,
    /// Clusters that are gone, by key, and since when.
    gone: KeyMap<WallTime>,
    /// Where the next turn begins.
    turn: usize,
}

impl Gauges {
    /// The next clusters in turn, at most `count`.
    pub fn turn<'a>(
        &mut self,
        clusters: &'a [Rc<Cluster>],
        count: usize,
    ) -> impl Iterator<Item = &'a Rc<Cluster>> + use<'a> {
        let start = if self.turn < clusters.len() {
            self.turn
        } else {
            0
        };
        self.turn = start.saturating_add(count);
        clusters.iter().skip(start).take(count)
    }

    /// Forgets what the gauges were set to, but not whose there are: another VM had the lease.
    pub fn doubt(&mut self) {
        for (_, values) in self.set.values_mut() {
            *values = None;
        }
    }

    /// Notes the clusters that are gone: who has set their gauges may have lost the lease by now.
    pub fn note(&mut self, before: &Snapshot, after: &Snapshot) {
        for cluster in before.clusters() {
            if after.cluster(cluster.name.as_bytes()).is_none() && self.set.len() < NOTED_MAX {
                let entry = || (cluster.name.clone(), None);
                self.set.entry(cluster.key.0).or_insert_with(entry);
            }
        }
    }

    /// Notes what the gauges of a cluster are to say; whether they have to be set for that.
    pub fn is_news(&mut self, cluster: &Cluster, values: GaugeValues) -> bool {
        let entry = || (cluster.name.clone(), None);
        let (_, last) = self.set.entry(cluster.key.0).or_insert_with(entry);
        last.replace(values) != Some(values)
    }

    /// Forgets the clusters that are gone, and tells `zero` whose gauges were set.
    pub fn drop_gone(
        &mut self,
        snapshot: &Snapshot,
        now: WallTime,
        mut zero: impl FnMut(ClusterKey, &str),
    ) {
        let gone = &mut self.gone;
        self.set.retain(|key, (name, _)| {
            let stays = snapshot.cluster(name.as_bytes()).is_some();
            if stays {
                gone.remove(key);
            } else {
                zero(ClusterKey(*key), name);
                if gone.len() < NOTED_MAX {
                    gone.insert(*key, now);
                }
            }
            stays
        });
    }

    /// Takes out the keys of clusters that have been gone for so long that nothing need be known of
    /// them any more.
    pub fn take_forgotten(&mut self, now: WallTime) -> Vec<ClusterKey> {
        let is_over = |since: &WallTime| now.age_of(*since) >= KEPT_NS;
        let over = self.gone.iter().filter(|(_, since)| is_over(since));
        let over: Vec<ClusterKey> = over.map(|(key, _)| ClusterKey(*key)).collect();
        self.gone.retain(|_, since| !is_over(since));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::load::Loads;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn snapshot(names: &[&str]) -> Snapshot {
        let clusters: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let json = json!({"schema": 1, "clusters": clusters}).to_string();
        let (loads, now) = (&mut Loads::default(), WallTime::default());
        Snapshot::compile(json.as_bytes(), &[], loads, now, 1).expect("a good registry")
    }

    const NOW: WallTime = WallTime::from_ns(100 * KEPT_NS);

    fn values(available: u32) -> GaugeValues {
        GaugeValues {
            available,
            ..GaugeValues::default()
        }
    }

    fn zeroed(gauges: &mut Gauges, snapshot: &Snapshot) -> Vec<String> {
        let mut names = Vec::new();
        gauges.drop_gone(snapshot, NOW, |_, name| names.push(name.to_owned()));
        names
    }

    #[test]
    fn clusters_are_looked_at_in_turns() {
        let snapshot = snapshot(&["a", "b", "c"]);
        let mut gauges = Gauges::default();
        let mut turn = |count| -> Vec<String> {
            let turn = gauges.turn(snapshot.clusters(), count);
            turn.map(|cluster| cluster.name.to_string()).collect()
        };
        assert_eq!(turn(2), ["a", "b"]);
        assert_eq!(turn(2), ["c"]);
        assert_eq!(turn(5), ["a", "b", "c"]);
        assert_eq!(turn(1), ["a"]);
    }

    #[test]
    fn gt_9_every_cluster_has_its_turn_however_often_configurations_come() {
        let names: Vec<String> = (0..30).map(|nth| format!("c{nth:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut gauges = Gauges::default();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let (before, after) = (snapshot(&names), snapshot(&names));
            gauges.note(&before, &after);
            let turn = gauges.turn(after.clusters(), 5);
            seen.extend(turn.map(|cluster| cluster.name.to_string()));
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn gt_9_gauges_are_set_when_they_change_and_anew_after_another_had_the_lease() {
        let snapshot = snapshot(&["orders"]);
        let cluster = &snapshot.clusters()[0];
        let mut gauges = Gauges::default();
        assert!(gauges.is_news(cluster, values(0)), "also zeros, at first");
        assert!(!gauges.is_news(cluster, values(0)));
        assert!(gauges.is_news(cluster, values(1)));
        gauges.doubt();
        assert!(gauges.is_news(cluster, values(1)));
        assert!(!gauges.is_news(cluster, values(1)));
    }

    #[test]
    fn a_cluster_that_is_gone_for_long_is_forgotten_unless_it_came_back() {
        let (both, one) = (snapshot(&["orders", "users"]), snapshot(&["orders"]));
        let users = both.cluster(b"users").expect("it is there").key;
        let later = NOW.plus(KEPT_NS);
        for (comes_back, forgotten) in [(false, vec![users]), (true, vec![])] {
            let mut gauges = Gauges::default();
            gauges.note(&both, &one);
            zeroed(&mut gauges, &one);
            assert!(gauges.take_forgotten(NOW.plus(KEPT_NS - 1)).is_empty());
            if comes_back {
                gauges.is_news(both.cluster(b"users").expect("it is there"), values(1));
                zeroed(&mut gauges, &both);
            }
            assert_eq!(gauges.take_forgotten(later), forgotten);
            assert!(gauges.take_forgotten(later).is_empty(), "once");
        }
    }

    #[test]
    fn gt_9_a_cluster_that_is_gone_is_zeroed_once_by_whoever_has_the_lease() {
        let (both, one) = (snapshot(&["orders", "users"]), snapshot(&["orders"]));
        let mut setter = Gauges::default();
        for cluster in both.clusters() {
            setter.is_news(cluster, values(1));
        }
        setter.doubt();
        assert_eq!(zeroed(&mut setter, &one), ["users"]);
        assert!(zeroed(&mut setter, &one).is_empty());
        // The lease came to this one between the setting and the removal.
        let mut heir = Gauges::default();
        heir.note(&both, &one);
        heir.doubt();
        assert_eq!(zeroed(&mut heir, &one), ["users"]);
        heir.note(&both, &one);
        assert!(zeroed(&mut heir, &both).is_empty(), "it is back");
        let names: Vec<String> = (0..NOTED_MAX + 1).map(|nth| format!("c{nth}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        heir.note(&snapshot(&names), &one);
        assert_eq!(zeroed(&mut heir, &one).len(), NOTED_MAX, "bounded");
    }
}
