//! A new id at a known address starts from what is held against the address: it is the same server.

use super::gate::Gate;
use super::gates::Gates;
use crate::base::hash::{self, BackendKey, KeyMap};
use crate::cluster::{Cluster, EndpointIndex};

/// Gives each id that is new in a cluster the gate of one that stood at its address `before` and is
/// gone. The old gates stay: other workers may still run the configuration before.
pub fn inherit(before: &Cluster, after: &Cluster, gates: &mut Gates) {
    let is_new = |key: BackendKey| before.backend_by_key(key).is_none();
    let is_gone = |gate: &Gate| !is_new(gate.key) && after.backend_by_key(gate.key).is_none();
    let gone: Vec<Gate> = gates.entries().iter().filter(is_gone).collect();
    if gone.is_empty() {
        return;
    }
    // The same load means the same address in the same cluster.
    let endpoints = after.endpoints.iter().enumerate();
    let endpoints = endpoints.map(|(place, it)| (it.load.key.0, EndpointIndex::of(place)));
    let endpoints: KeyMap<EndpointIndex> = endpoints.collect();
    let mut heirs: Vec<(u64, u32)> = Vec::new();
    for (place, gate) in (0..).zip(&gone) {
        let backend = before.backend_by_key(gate.key);
        let endpoint = backend.and_then(|backend| before.endpoint(backend.endpoint));
        if let Some(endpoint) = endpoint.and_then(|before| endpoints.get(&before.load.key.0)) {
            let new = after.keys_at(*endpoint).filter(|key| is_new(*key));
            heirs.extend(new.map(|key| (key.0, place)));
        }
    }
    hash::sort(&mut heirs);
    heirs.dedup_by_key(|(key, _)| *key);
    gates.add(&mut heirs.into_iter().filter_map(|(key, place)| {
        let gate = usize::try_from(place)
            .ok()
            .and_then(|place| gone.get(place));
        gate.map(|gate| Gate {
            key: BackendKey(key),
            ..*gate
        })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::standing::Standing;
    use crate::testing::drawing::Drawing;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The standings of these ids after a cluster was drawn anew.
    fn redrawn(before: &str, after: &str, ids: &str) -> Vec<Standing> {
        let mut drawing = Drawing::new(before);
        let old = drawing.cluster.clone();
        drawing.redraw(after);
        inherit(&old, &drawing.cluster.clone(), &mut drawing.gates);
        let view = drawing.view();
        let standing = |id| view.standing(drawing.endpoint(id), drawing.now);
        ids.split_whitespace().map(standing).collect()
    }

    #[test]
    fn a_renamed_backend_starts_from_its_addresss_verdict_and_back_off() {
        use Standing::{BackingOff, Ready, Unhealthy};
        let before = "a:cooling b:unhealthy c d:unhealthy";
        let after = "x@a y@b z@c d v";
        let seen = redrawn(before, after, "x y z d v");
        assert_eq!(seen, [BackingOff, Unhealthy, Ready, Unhealthy, Ready]);
    }

    #[test]
    fn a_gate_is_inherited_whole_and_stays_for_who_runs_the_configuration_before() {
        let mut drawing = Drawing::new("a:down b");
        let old = drawing.cluster.clone();
        let of_a = drawing.gates.of(drawing.key("a")).unwrap();
        drawing.redraw("x@a y@a b");
        inherit(&old, &drawing.cluster.clone(), &mut drawing.gates);
        for key in [drawing.key("x"), drawing.key("y"), of_a.key] {
            assert_eq!(drawing.gates.of(key), Some(Gate { key, ..of_a }));
        }
        assert_eq!(drawing.gates.entries().len(), 3);
    }

    #[test]
    fn what_the_new_id_has_met_itself_stands() {
        let mut drawing = Drawing::new("a:cooling9");
        let old = drawing.cluster.clone();
        drawing.redraw("x@a:unhealthy");
        let own = drawing.gates.of(drawing.key("x"));
        inherit(&old, &drawing.cluster.clone(), &mut drawing.gates);
        assert_eq!(drawing.gates.of(drawing.key("x")), own);
    }

    #[test]
    fn another_address_inherits_nothing() {
        assert_eq!(redrawn("a:cooling", "a@b", "a"), [Standing::Ready]);
    }
}
