//! The entries of a blob of gates, read where they stand: sorted by key, all of one size.

use super::gate::{ENTRY, Gate};
use crate::base::hash::BackendKey;

/// Entries that nobody has decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Entries<'a> {
    /// No entries at all.
    pub const NONE: Entries<'static> = Entries {
        bytes: &[],
        size: ENTRY,
    };

    /// As many entries of `size` bytes as there are in `bytes`.
    pub(super) fn new(bytes: &'a [u8], size: usize) -> Self {
        Entries { bytes, size }
    }

    /// All of them as they stand.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of each.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.size).unwrap_or(0)
    }

    /// All gates, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = Gate> + use<'a> {
        let entries = self.bytes.chunks_exact(self.size.max(1));
        entries.filter_map(Gate::read)
    }

    /// The gate of a backend, if anything is held against it.
    pub fn of(&self, key: BackendKey) -> Option<Gate> {
        let place = self.find(key).ok()?;
        self.at(place).and_then(Gate::read)
    }

    /// Where a key stands, or where it would.
    pub(super) fn find(&self, key: BackendKey) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key_at(middle) {
                Some(found) if found == key => return Ok(middle),
                Some(found) if found < key => low = middle.saturating_add(1),
                _ => high = middle,
            }
        }
        Err(low)
    }

    /// Whether every key is greater than the one before it.
    pub(super) fn are_in_order(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a.key < b.key)
    }

    fn key_at(&self, place: usize) -> Option<BackendKey> {
        let start = place.checked_mul(self.size)?;
        let key = self.bytes.get(start..)?.first_chunk::<8>()?;
        Some(BackendKey(u64::from_le_bytes(*key)))
    }

    pub(super) fn at(&self, place: usize) -> Option<&'a [u8]> {
        let start = place.checked_mul(self.size)?;
        self.bytes.get(start..)?.get(..self.size)
    }
}
