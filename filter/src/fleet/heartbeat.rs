//! What every worker of an Envoy publishes: that it lives, which revision it runs, and how loaded it
//! finds the endpoints.

use crate::base::time::WallTime;
use crate::cluster::load::LoadReport;

/// The first byte of the record; another one is another format.
const FORMAT: u8 = 1;
const HEAD: usize = 25;
const LOAD: usize = 20;
/// Most loads of one heartbeat: those of more endpoints are told at later ticks.
pub const LOADS_MAX: usize = 4096;
/// Most workers of one Envoy that are told apart.
pub const SLOTS_MAX: u32 = 256;
/// A worker without a heartbeat for longer has no loads, and its slot may be taken.
pub const HEARTBEAT_NS: u64 = 1_000_000_000;
/// A worker without a heartbeat for longer runs no revision. Longer than the above: one that is
/// busy for seconds still runs the old one.
pub const REVISION_NS: u64 = 5_000_000_000;

/// What one worker publishes in its slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The worker's VM.
    pub vm: u64,
    /// When it was written.
    pub at: WallTime,
    /// The revision it runs.
    pub revision: u64,
    /// Those of its endpoints.
    pub loads: Vec<LoadReport>,
}

impl Heartbeat {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let loads = self.loads.len().min(LOADS_MAX);
        let size = loads.saturating_mul(LOAD).saturating_add(HEAD);
        let mut bytes = Vec::with_capacity(size);
        bytes.push(FORMAT);
        for number in [self.vm, self.at.ns(), self.revision] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for load in self.loads.iter().take(loads) {
            bytes.extend_from_slice(&load.key.to_le_bytes());
            bytes.extend_from_slice(&load.in_flight.to_le_bytes());
            bytes.extend_from_slice(&load.estimate_ns.to_le_bytes());
        }
        bytes
    }

    /// Reads a record; `None` for one of another format or length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, loads) = bytes.split_at_checked(HEAD)?;
        let (format, numbers) = head.split_first()?;
        let fits = loads.len().checked_rem(LOAD) == Some(0);
        if *format != FORMAT || !fits || loads.len() > LOADS_MAX.saturating_mul(LOAD) {
            return None;
        }
        let mut numbers = numbers.chunks_exact(8).map(read_u64);
        Some(Heartbeat {
            vm: numbers.next()?,
            at: WallTime::from_ns(numbers.next()?),
            revision: numbers.next()?,
            loads: loads.chunks_exact(LOAD).filter_map(read_load).collect(),
        })
    }

    /// Whether its loads still count.
    pub fn is_live(&self, now: WallTime) -> bool {
        now.age_of(self.at) < HEARTBEAT_NS
    }

    /// Whether its revision still counts.
    pub fn runs(&self, now: WallTime) -> bool {
        now.age_of(self.at) < REVISION_NS
    }
}

fn read_load(bytes: &[u8]) -> Option<LoadReport> {
    let (key, rest) = bytes.split_first_chunk::<8>()?;
    let (in_flight, estimate) = rest.split_first_chunk::<4>()?;
    Some(LoadReport {
        key: u64::from_le_bytes(*key),
        in_flight: u32::from_le_bytes(*in_flight),
        estimate_ns: read_u64(estimate),
    })
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_record_reads_back_and_the_corrupt_is_none() {
        let load = |key| LoadReport {
            key,
            in_flight: 5,
            estimate_ns: 6,
        };
        let heartbeat = Heartbeat {
            vm: 1,
            at: WallTime::from_ns(2),
            revision: 3,
            loads: vec![load(4), load(7)],
        };
        let bytes = heartbeat.encode();
        assert_eq!(Heartbeat::decode(&bytes), Some(heartbeat));
        assert_eq!(Heartbeat::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Heartbeat::decode(&[]), None);
        assert_eq!(Heartbeat::decode(&[&[2], &bytes[1..]].concat()), None);
    }

    #[test]
    fn a_heartbeat_counts_while_it_is_fresh() {
        let now = WallTime::from_ns(9 * REVISION_NS);
        let heartbeat = |ns| Heartbeat {
            at: WallTime::from_ns(ns),
            ..Heartbeat::default()
        };
        let ago = |ns| heartbeat(now.ns() - ns);
        assert!(ago(0).is_live(now) && ago(HEARTBEAT_NS - 1).is_live(now));
        assert!(!ago(HEARTBEAT_NS).is_live(now) && ago(HEARTBEAT_NS).runs(now));
        assert!(!ago(REVISION_NS).runs(now));
        assert!(
            heartbeat(now.ns() + 1).is_live(now),
            "another worker's reading may be a little newer"
        );
        let ahead = heartbeat(2 * now.ns());
        assert!(!ahead.is_live(now) && !ahead.runs(now), "stepped back");
    }
}
