//! Which loads a worker tells the others of, where a heartbeat has no room for all.

use crate::base::hash::{KeySet, LoadKey};
use crate::cluster::load::LoadReport;

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    /// The last that was told.
    told: LoadKey,
}

impl Turns {
    /// At most `room` of these loads: those of `leaving` endpoints first, the others in turns by their
    /// key. And whether all that leave are among them.
    pub fn choose(
        &mut self,
        mut loads: Vec<LoadReport>,
        leaving: impl FnOnce() -> KeySet<LoadKey>,
        room: usize,
    ) -> (Vec<LoadReport>, bool) {
        if loads.len() <= room {
            return (loads, true);
        }
        let leaving = leaving();
        let leaves = |load: &LoadReport| leaving.contains(load.key);
        loads.sort_unstable_by_key(|load| (!leaves(load), load.key <= self.told, load.key));
        let holds_leaving = !loads.get(room).is_some_and(leaves);
        loads.truncate(room);
        self.told = loads.last().map_or(LoadKey(0), |load| load.key);
        (loads, holds_leaving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// What is told of seven endpoints in heartbeats with room for three.
    fn told(leaving: &[u64], heartbeats: usize) -> Vec<(Vec<u64>, bool)> {
        let mut turns = Turns::default();
        let load = |key| LoadReport {
            key: LoadKey(key),
            in_flight: 1,
            estimate_ns: 0,
            average: None,
        };
        let mut heartbeat = || {
            let loads = [5, 2, 7, 1, 6, 3, 4].map(load).to_vec();
            let (told, holds) =
                turns.choose(loads, || leaving.iter().copied().map(LoadKey).collect(), 3);
            (told.iter().map(|load| load.key.0).collect(), holds)
        };
        (0..heartbeats).map(|_| heartbeat()).collect()
    }

    #[test]
    fn everybody_is_told_of_in_turns() {
        let each = [[1, 2, 3], [4, 5, 6], [7, 1, 2]];
        assert_eq!(told(&[], 3), each.map(|keys| (keys.to_vec(), true)));
        let (all, holds) = Turns::default().choose(Vec::new(), KeySet::default, 3);
        assert!(all.is_empty() && holds);
    }

    #[test]
    fn rg_19_those_that_leave_are_told_of_first() {
        let each = [[6, 7, 1], [6, 7, 2], [6, 7, 3]];
        assert_eq!(told(&[7, 6], 3), each.map(|keys| (keys.to_vec(), true)));
        let each = [[2, 4, 6], [7, 2, 4]];
        let cut = told(&[2, 4, 6, 7], 2);
        assert_eq!(cut, each.map(|keys| (keys.to_vec(), false)));
    }
}
