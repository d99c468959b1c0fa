//! How often each backend was picked.

use std::collections::BTreeMap;

/// Picks by id.
#[derive(Debug, Default)]
pub struct Shares(BTreeMap<String, usize>);

impl Shares {
    pub fn add(&mut self, id: String) {
        *self.0.entry(id).or_default() += 1;
    }

    pub fn of(&self, id: &str) -> usize {
        self.0.get(id).copied().unwrap_or(0)
    }

    /// Every one of these, and nobody else, has `wanted` picks, give or take `tolerance`.
    pub fn each(&self, ids: &str, wanted: usize, tolerance: usize) {
        for id in ids.split_whitespace() {
            assert!(self.of(id).abs_diff(wanted) <= tolerance, "{id}: {self:?}");
        }
        let known = |id: &String| ids.split_whitespace().any(|known| known == id);
        assert!(self.0.keys().all(known), "{self:?}");
    }
}
