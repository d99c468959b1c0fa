//! What keeps backends of a cluster out of the picks: back-offs and verdicts, with the latches of
//! the regimes they lead to. One blob in shared data per cluster, seen by every worker.
//!
//! Nothing gated is an **empty** blob, so that the good path reads nothing. Entries are keyed by
//! the hash of (id, address), never by position: two configurations may live side by side. A blob of
//! another version, too short or too long counts as empty; one whose entries are out of order is
//! emptied by whoever tidies up next. Changes are made where they belong: what a newer module has
//! appended to the head or to an entry is left alone.

use super::entries::Entries;
use super::gate::{ENTRY, ENTRY_MIN, Gate, holds_nothing};
use crate::base::hash::{BackendKey, KeySet};
use crate::base::record::{self, Fields};
use crate::base::time::WallTime;

const VERSION: u8 = 1;
/// Most entries of one blob; more are not taken in.
pub const ENTRIES_MAX: usize = 20_000;
const FAIL_OPEN: u8 = 1;
const ALL_DOWN: u8 = 2;
/// Entries of backends that no configuration names are dropped this long after their window.
const STALE_NS: u64 = 600_000_000_000;
/// A verdict younger than this may be on a backend of the next configuration.
const NEWS_NS: u64 = 10_000_000_000;

/// The head of a blob, and its entries.
#[derive(Debug, Clone, Copy)]
struct Blob<'a> {
    flags: u8,
    /// Fields of a newer module.
    appended: &'a [u8],
    entries: Entries<'a>,
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Blob<'a> {
    /// `None` for the empty and the corrupt.
    fn open(blob: &'a [u8]) -> Option<Self> {
        let (mut fields, bytes): (Fields<'a>, &'a [u8]) = record::open(blob, VERSION)?;
        let (flags, size, count) = (fields.u8()?, fields.u16()?, fields.u16()?);
        let (size, count) = (usize::from(size), usize::from(count));
        let fits = size >= ENTRY_MIN && bytes.len() == count.checked_mul(size)?;
        (fits && count <= ENTRIES_MAX).then_some(Blob {
            flags,
            appended: fields.rest(),
            entries: Entries::new(bytes, size),
            bytes,
            size,
        })
    }
}

/// The entries of a blob and the latch of fail-open, read in place.
pub(super) fn open(blob: &[u8]) -> (Entries<'_>, bool) {
    match Blob::open(blob) {
        Some(blob) => (blob.entries, blob.flags & FAIL_OPEN != 0),
        None => (Entries::NONE, false),
    }
}

/// The gates of one cluster, to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gates {
    /// Requests are sent to unhealthy backends because no other is left.
    pub fail_open: bool,
    /// No backend is available.
    pub all_down: bool,
    /// Flags of a newer module.
    other_flags: u8,
    /// Fields of a newer module.
    appended: Vec<u8>,
    /// The entries, each of `size` bytes.
    bytes: Vec<u8>,
    size: usize,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            fail_open: false,
            all_down: false,
            other_flags: 0,
            appended: Vec::new(),
            bytes: Vec::new(),
            size: ENTRY_MIN,
        }
    }
}

impl Gates {
    /// Takes a blob over; see the module's text for the corrupt.
    pub fn decode(blob: &[u8]) -> Self {
        let Some(blob) = Blob::open(blob) else {
            return Gates::default();
        };
        Gates {
            fail_open: blob.flags & FAIL_OPEN != 0,
            all_down: blob.flags & ALL_DOWN != 0,
            other_flags: blob.flags & !(FAIL_OPEN | ALL_DOWN),
            appended: blob.appended.to_vec(),
            bytes: blob.bytes.to_vec(),
            size: blob.size,
        }
    }

    /// The blob; empty when nothing is gated.
    pub fn encode(&self) -> Vec<u8> {
        let flags = self.other_flags
            | if self.fail_open { FAIL_OPEN } else { 0 }
            | if self.all_down { ALL_DOWN } else { 0 };
        let appended = self.appended.iter().any(|byte| *byte != 0);
        if flags == 0 && self.bytes.is_empty() && !appended {
            return Vec::new();
        }
        let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
        let ([s0, s1], [c0, c1]) = (number(self.size), number(self.entries().len()));
        let mut fields = vec![flags, s0, s1, c0, c1];
        fields.extend_from_slice(&self.appended);
        let mut blob = record::create(VERSION, &fields, self.bytes.len());
        blob.extend_from_slice(&self.bytes);
        blob
    }

    /// All of them.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.bytes, self.size)
    }

    /// Whom the sidecar's verdict is against.
    pub fn unhealthy(&self) -> Vec<BackendKey> {
        let gates = self.entries().iter().filter(|gate| gate.unhealthy);
        gates.map(|gate| gate.key).collect()
    }

    /// The gate of a backend, if anything is held against it.
    pub fn of(&self, key: BackendKey) -> Option<Gate> {
        self.entries().of(key)
    }

    /// Changes the gate of a backend; one that holds nothing afterwards is dropped.
    pub fn update(&mut self, key: BackendKey, change: impl FnOnce(&mut Gate)) {
        let entries = self.entries();
        let found = entries.find(key);
        let place = match found {
            Err(_) if entries.len() >= ENTRIES_MAX => return,
            Ok(place) | Err(place) => place,
        };
        let mut gate = entries.of(key).unwrap_or(Gate::open(key));
        change(&mut gate);
        if gate.cooled_at > WallTime::default() {
            self.widen();
        }
        match found {
            Ok(_) => self.put(place, &gate),
            Err(_) => self.insert(place, &gate),
        }
        self.narrow();
    }

    /// Takes verdicts in: those in `unhealthy` are, those for whom `healthy` is true are not.
    pub fn judge(
        &mut self,
        unhealthy: &[BackendKey],
        healthy: impl Fn(BackendKey) -> bool,
        now: WallTime,
    ) {
        let unhealthy: KeySet<BackendKey> = unhealthy.iter().copied().collect();
        self.revise(|gate| {
            let stays = gate.unhealthy && !healthy(gate.key);
            gate.judge(unhealthy.contains(gate.key) || stays, now);
            true
        });
        self.add(&mut unhealthy.iter().map(|key| {
            let mut gate = Gate::open(key);
            gate.judge(true, now);
            gate
        }));
    }

    /// Adds gates, sorted by key, but for those of backends that have one. All at once: in a large
    /// cluster each by itself would move thousands of others.
    pub fn add(&mut self, gates: &mut dyn Iterator<Item = Gate>) {
        let room = ENTRIES_MAX.saturating_sub(self.entries().len());
        let strangers = gates.filter(|gate| self.of(gate.key).is_none());
        let mut strangers = strangers.take(room).peekable();
        let mut merged = Vec::with_capacity(self.bytes.len());
        for entry in self.bytes.chunks_exact(self.size.max(1)) {
            let key = Gate::read(entry).map_or(BackendKey(u64::MAX), |gate| gate.key);
            while let Some(gate) = strangers.next_if(|stranger| stranger.key < key) {
                append(&mut merged, self.size, &gate);
            }
            merged.extend_from_slice(entry);
        }
        strangers.for_each(|gate| append(&mut merged, self.size, &gate));
        self.bytes = merged;
    }

    /// Ends windows that began before the clock stepped back, and ramps that are as long as they may be; drops what is held against backends
    /// that `known` denies: back-offs once their window is long over, and verdicts that are no news
    /// while all workers are `settled`. Entries out of order are dropped altogether: nobody would find
    /// them.
    pub fn prune(
        &mut self,
        now: WallTime,
        ramp_ns: u64,
        settled: bool,
        known: impl Fn(BackendKey) -> bool,
    ) {
        if !self.entries().are_in_order() {
            *self = Gates::default();
        }
        self.revise(|gate| {
            if gate.is_of_the_future(now) {
                (gate.failed_at, gate.until) = (now, now);
            }
            if now.stepped_back_since(gate.cooled_at) {
                (gate.cooled_at, gate.cools_until) = (now, now);
            }
            // An older module may have forgotten the failures alone.
            gate.ejected &= gate.tries > 0;
            if gate.cooldowns == 0 && !gate.cools(now) {
                gate.warm_up();
            }
            if gate.tries == 0 && gate.cooldowns == 0 && !gate.is_inside(now) {
                gate.forgive();
            }
            if now.age_of(gate.recovered_at) >= ramp_ns {
                gate.recovered_at = WallTime::default();
            }
            let judged_long_ago = now.age_of(gate.unhealthy_since) > NEWS_NS;
            if settled && gate.unhealthy && judged_long_ago && !known(gate.key) {
                gate.judge(false, now);
            }
            let over = gate.until.max(gate.cools_until);
            let stale = !gate.unhealthy && over.plus(STALE_NS) < now;
            !stale || known(gate.key)
        });
    }

    /// Changes every gate. One that `keep` denies or that holds nothing is dropped.
    fn revise(&mut self, mut keep: impl FnMut(&mut Gate) -> bool) {
        let mut kept = Vec::with_capacity(self.bytes.len());
        for entry in self.bytes.chunks_exact_mut(self.size.max(1)) {
            let Some(mut gate) = Gate::read(entry) else {
                continue;
            };
            let before = gate;
            let stays = keep(&mut gate);
            if gate != before {
                gate.write(entry);
            }
            if stays && !holds_nothing(entry) {
                kept.extend_from_slice(entry);
            }
        }
        self.bytes = kept;
        self.narrow();
    }

    /// Gives every entry room for all that this module knows: without cooldowns nobody pays for that.
    fn widen(&mut self) {
        let room = ENTRY.saturating_sub(self.size);
        if room == 0 {
            return;
        }
        let mut wide = Vec::with_capacity(self.bytes.len().saturating_mul(2));
        for entry in self.bytes.chunks_exact(self.size.max(1)) {
            wide.extend_from_slice(entry);
            wide.resize(wide.len().saturating_add(room), 0);
        }
        (self.bytes, self.size) = (wide, ENTRY);
    }

    /// Where there is no entry any more, the next one begins small.
    fn narrow(&mut self) {
        if self.bytes.is_empty() {
            self.size = ENTRY_MIN;
        }
    }

    fn put(&mut self, place: usize, gate: &Gate) {
        let start = place.saturating_mul(self.size);
        let entry = start..start.saturating_add(self.size);
        if let Some(bytes) = self.bytes.get_mut(entry.clone()) {
            gate.write(bytes);
            if holds_nothing(bytes) {
                self.bytes.drain(entry);
            }
        }
    }

    fn insert(&mut self, place: usize, gate: &Gate) {
        let mut entry = vec![0; self.size];
        gate.write(&mut entry);
        let start = place.saturating_mul(self.size);
        if !holds_nothing(&entry) && start <= self.bytes.len() {
            self.bytes.splice(start..start, entry);
        }
    }
}

fn append(bytes: &mut Vec<u8>, size: usize, gate: &Gate) {
    let start = bytes.len();
    bytes.resize(start.saturating_add(size), 0);
    if let Some(entry) = bytes.get_mut(start..) {
        gate.write(entry);
    }
}

#[cfg(test)]
mod tests;
