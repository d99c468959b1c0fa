//! The ordered endpoints of one request.

use crate::cluster::EndpointIndex;
use crate::config::FilterConfig;

/// Most entries of a list: the most attempts the schema allows.
pub const LIST_MAX: usize = 10;

/// Up to [`LIST_MAX`] endpoints by index, in the order in which they are tried; lives in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct List {
    entries: [EndpointIndex; LIST_MAX],
    len: u8,
}

impl List {
    /// A list of one.
    pub fn of(endpoint: EndpointIndex) -> Self {
        let mut list = List::default();
        list.push(endpoint);
        list
    }

    /// The entries in order.
    pub fn entries(&self) -> &[EndpointIndex] {
        self.entries
            .get(..usize::from(self.len))
            .unwrap_or_default()
    }

    /// Adds an entry at the end; a full list stays as it is.
    pub fn push(&mut self, endpoint: EndpointIndex) {
        if let Some(entry) = self.entries.get_mut(usize::from(self.len)) {
            *entry = endpoint;
            self.len = self.len.saturating_add(1);
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first entry.
    pub fn first(&self) -> Option<EndpointIndex> {
        self.entries().first().copied()
    }
}

// The schema's limit on attempts and the room here are one number.
const _: () = assert!(FilterConfig::ATTEMPTS_MAX as usize == LIST_MAX);
