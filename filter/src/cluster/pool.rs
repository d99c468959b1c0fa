//! Endpoints that are picked among themselves.

use super::endpoint::EndpointIndex;
use super::tables::Table;
use crate::config::Policy;

/// Endpoints among which a policy picks, in the registry's order.
#[derive(Debug)]
pub struct Pool {
    members: Vec<EndpointIndex>,
    table: Table,
}

impl Pool {
    /// A pool of endpoints with their weights. `seed` is where round robin starts.
    pub(super) fn new(policy: Policy, members: &[(EndpointIndex, u16)], seed: u32) -> Self {
        let weights: Vec<u16> = members.iter().map(|(_, weight)| *weight).collect();
        Pool {
            members: members.iter().map(|(index, _)| *index).collect(),
            table: Table::compile(policy, &weights, seed),
        }
    }

    /// What the policy has compiled for it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All of them, in order.
    pub fn members(&self) -> &[EndpointIndex] {
        &self.members
    }

    /// The endpoint at a place of the pool.
    pub fn at(&self, place: u32) -> Option<EndpointIndex> {
        usize::try_from(place)
            .ok()
            .and_then(|place| self.members.get(place))
            .copied()
    }

    /// The place of an endpoint, if it is among them.
    pub fn place_of(&self, endpoint: EndpointIndex) -> Option<u32> {
        let place = self.members.binary_search(&endpoint).ok()?;
        u32::try_from(place).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn members_are_found_by_place_and_by_endpoint() {
        let [four, five, six] = [4, 5, 6].map(EndpointIndex::of);
        let pool = Pool::new(Policy::Random, &[(four, 1), (six, 1)], 0);
        assert_eq!((pool.len(), pool.at(1), pool.at(2)), (2, Some(six), None));
        assert_eq!((pool.place_of(six), pool.place_of(five)), (Some(1), None));
        let none = Pool::new(Policy::RoundRobin, &[], 9);
        assert!(none.is_empty() && none.at(0).is_none());
    }
}
