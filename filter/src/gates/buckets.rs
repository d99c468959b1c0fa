//! How often backends may be asked: a bucket of tokens for each that has a rate limit (RL-1). All of a
//! cluster stand in one record of shared data, seen by every worker.
//!
//! A bucket is one moment: when it is full, if nobody takes anything more (the generic cell rate
//! algorithm). One that is full stands nowhere. The record says when it was written: where the clock has
//! stepped back since, nobody knows how much time has passed, and all buckets count as full.
//!
//! Where a bucket has plenty a worker takes some tokens in advance, for the requests until its next tick:
//! to read the record and to replace it costs more than all else that limits ask for. They are gone from the
//! bucket, and what is left goes back with the tick: so in no stretch of time more is given away than a burst
//! and what comes in it and in the tick before.

use super::entries::Entries;
use crate::base::record::{self, Fields};
use crate::base::time::WallTime;
use crate::cluster::quota::Quota;
use crate::config::RATE_LIMITS_MAX;

const VERSION: u8 = 1;
/// Bytes of an entry: key, when the bucket is full. Newer modules append.
const ENTRY: usize = 16;
/// Where the moment stands in an entry.
const FULL_AT: usize = 8;
/// Most tokens that a worker takes in advance of one bucket.
const AHEAD_MAX: u64 = 32;
/// All workers together take one in so many of the tokens in advance that a bucket has: the others are there
/// for whoever needs them.
const AHEAD_PART: u64 = 16;
/// Most buckets of one record: those of two configurations side by side.
pub const BUCKETS_MAX: usize = 2 * RATE_LIMITS_MAX;

/// The buckets of a cluster, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Buckets<'a> {
    /// All of it; nothing where it cannot be read.
    record: &'a [u8],
    entries: Entries<'a>,
    /// The moment for which they are asked: no earlier than that of the last change.
    at: WallTime,
    /// How many tokens a request costs.
    cost: u32,
}

impl<'a> Buckets<'a> {
    /// Takes a record; one of another version or that is corrupt has no buckets but full ones.
    pub fn read(record: &'a [u8], now: WallTime) -> Self {
        match open(record) {
            Some((written_at, entries)) if !now.stepped_back_since(written_at) => Buckets {
                record,
                entries,
                at: now.max(written_at),
                cost: 1,
            },
            _ => Buckets {
                record: &[],
                entries: Entries::new(&[], ENTRY),
                at: now,
                cost: 1,
            },
        }
    }

    /// The same, asked for a request that costs so many tokens.
    pub fn at_cost(self, cost: u32) -> Self {
        Buckets { cost, ..self }
    }

    /// How many tokens a request costs.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// Whether a bucket never has as many tokens as the request costs (RL-4).
    pub fn is_over_burst(&self, quota: &Quota) -> bool {
        self.cost > quota.limit.burst
    }

    /// How long it takes until the tokens are there, nanoseconds; 0: they are. Over the burst they never are.
    pub fn wait_ns(&self, quota: &Quota) -> u64 {
        self.taken(quota).since(self.at.plus(quota.burst_ns))
    }

    /// Whether the tokens can still be owed.
    pub fn has_credit(&self, quota: &Quota) -> bool {
        !self.is_over_burst(quota) && self.taken(quota) <= self.owes_all_at(quota)
    }

    /// When a bucket is full from which the tokens were taken.
    fn taken(&self, quota: &Quota) -> WallTime {
        let cost_ns = quota.token_ns.saturating_mul(self.cost.into());
        self.full_at(quota).plus(cost_ns)
    }

    /// How many tokens more one of so many workers may take in advance.
    pub fn ahead(&self, quota: &Quota, workers: u32) -> u32 {
        let gone_ns = self.taken(quota).since(self.at);
        let left_ns = quota.burst_ns.saturating_sub(gone_ns);
        let parts = AHEAD_PART.saturating_mul(workers.max(1).into());
        let part_ns = quota.token_ns.saturating_mul(parts);
        let ahead = left_ns.checked_div(part_ns).unwrap_or(0).min(AHEAD_MAX);
        u32::try_from(ahead).unwrap_or(0)
    }

    /// The record after the tokens were taken or, where there are none, are owed: a burst of them at most.
    pub fn take(&self, quota: &Quota) -> Vec<u8> {
        let full_at = self.taken(quota).min(self.owes_all_at(quota));
        let Ok(place) = self.entries.find(quota.key) else {
            return self.insert(quota, full_at.ns().to_le_bytes());
        };
        let mut record = self.record.to_vec();
        put(&mut record, record::HEAD, self.at);
        put(&mut record, self.place_of_moment(place), full_at);
        record
    }

    /// The record that was read with tokens put back. Of a bucket that is full by now nothing is known.
    pub fn give_back<'q>(
        &self,
        record: &[u8],
        tokens: impl Iterator<Item = (&'q Quota, u32)>,
    ) -> Vec<u8> {
        let mut record = record.to_vec();
        for (quota, count) in tokens {
            if let Ok(place) = self.entries.find(quota.key) {
                let back_ns = quota.token_ns.saturating_mul(count.into());
                let full_at = self.full_at(quota).ns().saturating_sub(back_ns);
                let full_at = WallTime::from_ns(full_at);
                put(&mut record, self.place_of_moment(place), full_at);
            }
        }
        record
    }

    /// Where in the record an entry says when its bucket is full.
    fn place_of_moment(&self, place: usize) -> usize {
        let head = self.record.len().saturating_sub(self.entries.bytes().len());
        let start = place.saturating_mul(self.entries.size());
        start.saturating_add(head).saturating_add(FULL_AT)
    }

    /// With one more bucket, and without those that are full. Without any other where there are too
    /// many, or where they are out of order: nobody would find them.
    fn insert(&self, quota: &Quota, full_at: [u8; 8]) -> Vec<u8> {
        let mut new = vec![0; self.entries.size()];
        let fields = quota.key.0.to_le_bytes().into_iter().chain(full_at);
        new.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        let mut record = self.create();
        let (mut count, mut last, mut is_in) = (1, None, false);
        let entries = self.entries.bytes().chunks_exact(new.len().max(1));
        for entry in entries {
            let Some((key, full_at)) = read(entry) else {
                continue;
            };
            if last.is_some_and(|last| last >= key) || count >= BUCKETS_MAX {
                (record, is_in) = (self.create(), false);
                break;
            }
            last = Some(key);
            if key > quota.key.0 && !is_in {
                is_in = true;
                record.extend_from_slice(&new);
            }
            if full_at > self.at {
                count = count.saturating_add(1);
                record.extend_from_slice(entry);
            }
        }
        if !is_in {
            record.extend_from_slice(&new);
        }
        record
    }

    fn create(&self) -> Vec<u8> {
        let size = self.entries.size();
        let mut fields = record::numbers(&[self.at.ns()]);
        fields.extend_from_slice(&u16::try_from(size).unwrap_or(0).to_le_bytes());
        let room = self.entries.bytes().len().saturating_add(size);
        record::create(VERSION, &fields, room)
    }

    /// When a bucket is full. One that would take longer than it can is.
    fn full_at(&self, quota: &Quota) -> WallTime {
        let found = self.entries.find(quota.key).ok();
        let found = found.and_then(|place| read(self.entries.at(place)?));
        let full_at = found.map_or(self.at, |(_, full_at)| full_at.max(self.at));
        if full_at > self.owes_all_at(quota) {
            return self.at;
        }
        full_at
    }

    /// When a bucket is full that is as deep in debt as it can be.
    fn owes_all_at(&self, quota: &Quota) -> WallTime {
        self.at.plus(quota.burst_ns).plus(quota.burst_ns)
    }
}

/// Writes a moment to a place of a record.
fn put(record: &mut [u8], place: usize, moment: WallTime) {
    let bytes = record.get_mut(place..).and_then(<[u8]>::first_chunk_mut);
    if let Some(bytes) = bytes {
        *bytes = moment.ns().to_le_bytes();
    }
}

/// When a record was written, and its entries.
fn open(record: &[u8]) -> Option<(WallTime, Entries<'_>)> {
    let (mut fields, bytes): (Fields<'_>, &[u8]) = record::open(record, VERSION)?;
    let (at, size) = (WallTime::from_ns(fields.u64()?), usize::from(fields.u16()?));
    let entries = Entries::new(bytes, size);
    let fits = size >= ENTRY && bytes.len().checked_rem(size) == Some(0);
    (fits && entries.len() <= BUCKETS_MAX).then_some((at, entries))
}

/// An entry's key, and when its bucket is full.
fn read(entry: &[u8]) -> Option<(u64, WallTime)> {
    let mut fields = Fields::of(entry);
    Some((fields.u64()?, WallTime::from_ns(fields.u64()?)))
}

#[cfg(test)]
mod tests;
