//! Changes of gates that other workers outran: they hold for their own worker at once, and go into
//! shared data with its next change or tick.

use crate::base::hash::ClusterKey;
use std::rc::Rc;

use super::event::Event;
use super::gates::Gates;
use super::transition::GateChange;
use crate::base::random::SplitMix64;
use crate::cluster::Cluster;

/// Most changes that one worker keeps. No more can be late at once: each waits for a tick at most.
const LATE_MAX: usize = 1000;

/// A stream's change, as it is made at every try.
#[derive(Debug, Clone)]
pub struct StreamChange {
    /// The stream's cluster.
    pub cluster: Rc<Cluster>,
    /// What changes.
    pub change: GateChange,
    /// From which a window is drawn: the same at every try.
    pub seed: u64,
}

impl StreamChange {
    /// Applies itself; the events say what changed.
    pub fn apply(&self, gates: &mut Gates) -> Vec<Event> {
        let mut rng = SplitMix64::new(self.seed);
        self.change.apply(&self.cluster, gates, &mut rng)
    }
}

/// Applies changes in their order: what one write may hold of many streams.
pub fn apply_all(changes: &[StreamChange], gates: &mut Gates) -> Vec<Event> {
    let mut events = Vec::new();
    for change in changes {
        events.append(&mut change.apply(gates));
    }
    events
}

/// The changes that one worker keeps, in their order.
#[derive(Debug, Default)]
pub struct LateChanges(Vec<StreamChange>);

impl LateChanges {
    /// Keeps a change that was outrun.
    pub fn keep(&mut self, change: StreamChange) {
        if self.0.len() < LATE_MAX {
            self.0.push(change);
        }
    }

    /// Takes out those that `wanted` names, to be tried again.
    pub fn take(&mut self, wanted: impl Fn(&Cluster) -> bool) -> Vec<StreamChange> {
        let taken = self.0.extract_if(.., |late| wanted(&late.cluster));
        taken.collect()
    }

    /// Whether some of a cluster's are kept.
    pub fn has(&self, cluster: ClusterKey) -> bool {
        self.0.iter().any(|late| late.cluster.key == cluster)
    }

    /// A cluster's blob of gates as this worker has to see it.
    pub fn on_top_of(&self, blob: Vec<u8>, cluster: ClusterKey) -> Vec<u8> {
        let mut late = self.0.iter().filter(|late| late.cluster.key == cluster);
        let Some(first) = late.next() else {
            return blob;
        };
        let mut gates = Gates::decode(&blob);
        first.apply(&mut gates);
        late.for_each(|change| drop(change.apply(&mut gates)));
        gates.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;
    use crate::gates::evidence::{Evidence, Met};
    use crate::testing::drawing::{Drawing, NOW, SECOND};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn failed(drawing: &Drawing, id: &str, now: WallTime) -> StreamChange {
        let (cluster, endpoint) = (&drawing.cluster, drawing.endpoint(id));
        let evidence = vec![Evidence::new(cluster, endpoint, Met::Connect)];
        let change = GateChange {
            evidence,
            picked_at: now,
            now,
        };
        StreamChange {
            cluster: drawing.cluster.clone(),
            change,
            seed: now.ns(),
        }
    }

    #[test]
    fn invariant_2_a_late_failure_gates_for_its_own_worker_alike_at_every_look() {
        let drawing = Drawing::new("a b");
        let mut late = LateChanges::default();
        let key = drawing.cluster.key;
        assert_eq!(late.on_top_of(b"any".to_vec(), key), b"any");
        late.keep(failed(&drawing, "a", NOW));
        late.keep(failed(&drawing, "b", NOW.plus(SECOND)));
        assert!(
            late.on_top_of(Vec::new(), ClusterKey(key.0 + 1)).is_empty(),
            "another's"
        );
        let blob = late.on_top_of(Vec::new(), key);
        let gates = Gates::decode(&blob);
        for (id, at) in [("a", NOW), ("b", NOW.plus(SECOND))] {
            let gate = gates.of(drawing.key(id)).expect("a gate");
            assert!(gate.failed_at == at && gate.backs_off(at));
        }
        assert_eq!(late.on_top_of(Vec::new(), key), blob, "the same windows");
        assert_eq!(late.on_top_of(blob.clone(), key), blob, "counted once");
    }

    #[test]
    fn one_write_of_many_changes_tells_of_each_and_draws_as_each_alone_does() {
        let drawing = Drawing::new("a b");
        let changes = ["a", "b"].map(|id| failed(&drawing, id, NOW));
        let mut gates = Gates::default();
        let events = apply_all(&changes, &mut gates);
        let mut told = 0;
        for (id, change) in ["a", "b"].into_iter().zip(&changes) {
            let mut alone = Gates::default();
            told += change.apply(&mut alone).len();
            assert_eq!(alone.of(drawing.key(id)), gates.of(drawing.key(id)), "{id}");
        }
        assert!(told > 1 && events.len() == told, "{events:?}");
    }

    #[test]
    fn late_changes_are_tried_again_once_in_their_order() {
        let drawing = Drawing::new("a b");
        let mut late = LateChanges::default();
        for nth in 0..=LATE_MAX as u64 {
            late.keep(failed(&drawing, "a", NOW.plus(nth)));
        }
        assert!(late.take(|_| false).is_empty());
        let taken = late.take(|cluster| cluster.key == drawing.cluster.key);
        let times = taken.iter().map(|late| late.change.now);
        assert!(times.eq((0..LATE_MAX as u64).map(|nth| NOW.plus(nth))));
        assert!(late.take(|_| true).is_empty());
    }
}
