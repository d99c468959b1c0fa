//! What every worker of an Envoy publishes: that it lives, which revision it runs, and how loaded it
//! finds the endpoints. The loads stand in a record beside the heartbeat's own, which is small so that all
//! workers can read those of all at each tick; modules of older releases have them in the one.

use super::lease::is_idle;
use crate::base::hash::{ClientKey, LoadKey};
use crate::base::record::{self, Fields};
use crate::base::time::WallTime;
use crate::cluster::averages::Average;
use crate::cluster::clients::ClientReport;
use crate::cluster::load::LoadReport;

/// The version of the record.
const VERSION: u8 = 1;
/// Bytes of a load; newer modules append.
const LOAD: u16 = 20;
/// The same where some has averages.
const LOAD_AVERAGED: u16 = 44;
/// The loads hold all endpoints that leave.
const HOLDS_LEAVING: u8 = 1;
/// Most loads of one heartbeat: those of more endpoints are told at later ticks.
pub const LOADS_MAX: usize = 4096;
/// Most clients of one heartbeat: so many find room in its fields.
pub const CLIENTS_MAX: usize = 4096;
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
    /// The process of its Envoy.
    pub process: u64,
    /// When it picked last, wall clock.
    pub picked_at: WallTime,
    /// Whether the loads hold all of its endpoints that leave.
    pub holds_leaving: bool,
    /// Those of its endpoints.
    pub loads: Vec<LoadReport>,
    /// Those of its clients that may have too many streams.
    pub clients: Vec<ClientReport>,
}

impl Heartbeat {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let (at, picked_at) = (self.at.ns(), self.picked_at.ns());
        let numbers = [self.vm, at, self.revision, self.process, picked_at];
        let mut fields = record::numbers(&numbers);
        fields.push(if self.holds_leaving { HOLDS_LEAVING } else { 0 });
        let has_averages = self.loads.iter().any(|load| load.average.is_some());
        let size = if has_averages { LOAD_AVERAGED } else { LOAD };
        fields.extend_from_slice(&size.to_le_bytes());
        let clients = self.clients.get(..CLIENTS_MAX).unwrap_or(&self.clients);
        let count = u16::try_from(clients.len()).unwrap_or(0);
        fields.extend_from_slice(&count.to_le_bytes());
        for client in clients {
            fields.extend_from_slice(&client.key.0.to_le_bytes());
            fields.extend_from_slice(&client.streams.to_le_bytes());
        }
        let loads = self.loads.len().min(LOADS_MAX);
        let mut record = record::create(VERSION, &fields, loads.saturating_mul(size.into()));
        for load in self.loads.iter().take(loads) {
            record.extend_from_slice(&load.key.0.to_le_bytes());
            record.extend_from_slice(&load.in_flight.to_le_bytes());
            record.extend_from_slice(&load.estimate_ns.to_le_bytes());
            if has_averages {
                let Average {
                    latency_ns,
                    penalty_ns,
                    fed_at,
                } = load.average.unwrap_or_default();
                let numbers = [latency_ns, penalty_ns, fed_at.ns()];
                record.extend_from_slice(&record::numbers(&numbers));
            }
        }
        record
    }

    /// Reads a record; `None` for one of another version or too short.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (mut fields, loads) = record::open(record, VERSION)?;
        let heartbeat = Heartbeat {
            vm: fields.u64()?,
            at: WallTime::from_ns(fields.u64()?),
            revision: fields.u64()?,
            process: fields.u64()?,
            picked_at: WallTime::from_ns(fields.u64()?),
            holds_leaving: fields.u8()? & HOLDS_LEAVING != 0,
            loads: Vec::new(),
            clients: Vec::new(),
        };
        let size = fields.u16()?;
        let clients = read_clients(&mut fields).unwrap_or_default();
        let loads = loads.chunks_exact(size.max(LOAD).into());
        let fits = size >= LOAD && loads.remainder().is_empty() && loads.len() <= LOADS_MAX;
        fits.then(|| Heartbeat {
            loads: loads.filter_map(read_load).collect(),
            clients,
            ..heartbeat
        })
    }

    /// Without what it tells of loads and clients.
    pub fn alone(self) -> Self {
        Heartbeat {
            loads: Vec::new(),
            clients: Vec::new(),
            ..self
        }
    }

    /// Whether its loads still count.
    pub fn is_live(&self, now: WallTime) -> bool {
        now.age_of(self.at) < HEARTBEAT_NS
    }

    /// Whether its revision still counts.
    pub fn runs(&self, now: WallTime) -> bool {
        now.age_of(self.at) < REVISION_NS
    }

    /// Whether its VM runs another revision than `revision`, the newest, and picked no more when it
    /// wrote this: an old module's, which lives on for a stream alone. Nobody waits until it runs the
    /// newest. A worker that is too busy to write is no such VM.
    pub fn is_left_behind(&self, revision: u64) -> bool {
        self.revision != revision && is_idle(self.picked_at, self.at)
    }
}

/// Whether every worker is known to run a revision: none is busy, and none runs another one and still
/// picks. A worker is known by its heartbeat for as long as that counts as running a revision.
pub fn all_run(heartbeats: &[Heartbeat], revision: u64, now: WallTime) -> bool {
    let workers = heartbeats.iter().filter(|worker| worker.runs(now));
    let mut waited_for = workers.filter(|worker| !worker.is_left_behind(revision));
    waited_for.all(|worker| worker.is_live(now) && worker.revision == revision)
}

/// An older module tells of none.
fn read_clients(fields: &mut Fields<'_>) -> Option<Vec<ClientReport>> {
    let mut clients = Vec::new();
    for _ in 0..fields.u16()? {
        clients.push(ClientReport {
            key: ClientKey(fields.u64()?),
            streams: fields.u32()?,
        });
    }
    Some(clients)
}

fn read_load(entry: &[u8]) -> Option<LoadReport> {
    let mut fields = Fields::of(entry);
    Some(LoadReport {
        key: LoadKey(fields.u64()?),
        in_flight: fields.u32()?,
        estimate_ns: fields.u64()?,
        average: read_average(&mut fields),
    })
}

/// An older module tells of none, nor does a policy without.
fn read_average(fields: &mut Fields<'_>) -> Option<Average> {
    let average = Average {
        latency_ns: fields.u64()?,
        penalty_ns: fields.u64()?,
        fed_at: WallTime::from_ns(fields.u64()?),
    };
    (average.fed_at > WallTime::default()).then_some(average)
}

#[cfg(test)]
mod tests {
    use super::super::lease::IDLE_NS;
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn heartbeat() -> Heartbeat {
        let load = |key| LoadReport {
            key: LoadKey(key),
            in_flight: 5,
            estimate_ns: 6,
            average: None,
        };
        Heartbeat {
            vm: 1,
            at: WallTime::from_ns(2),
            revision: 3,
            process: 4,
            picked_at: WallTime::from_ns(5),
            holds_leaving: true,
            loads: vec![load(4), load(7)],
            clients: vec![ClientReport {
                key: ClientKey(8),
                streams: 9,
            }],
        }
    }

    #[test]
    fn the_record_reads_back_and_the_corrupt_is_none() {
        let bytes = heartbeat().encode();
        assert_eq!(Heartbeat::decode(&bytes), Some(heartbeat()));
        assert_eq!(Heartbeat::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Heartbeat::decode(&[]), None);
        assert_eq!(Heartbeat::decode(&[&[9], &bytes[1..]].concat()), None);
    }

    #[test]
    fn what_a_newer_module_appends_is_passed_over() {
        let known = heartbeat().encode();
        let (fields, loads) = record::open(&known, VERSION).expect("a record");
        let size = usize::from(LOAD);
        let mut longer = [fields.rest(), b"new"].concat();
        longer[41..43].copy_from_slice(&(LOAD + 2).to_le_bytes());
        let mut newer = record::create(VERSION, &longer, 0);
        for load in loads.chunks_exact(size) {
            newer.extend_from_slice(load);
            newer.extend_from_slice(b"!!");
        }
        assert_eq!(Heartbeat::decode(&newer), Some(heartbeat()));
        let mut older = longer.clone();
        older.truncate(43);
        let mut older = record::create(VERSION, &older, 0);
        older.extend_from_slice(&newer[newer.len() - 2 * (size + 2)..]);
        let without = Heartbeat {
            clients: Vec::new(),
            ..heartbeat()
        };
        assert_eq!(
            Heartbeat::decode(&older),
            Some(without),
            "an older module's"
        );
        longer[41..43].copy_from_slice(&(LOAD - 1).to_le_bytes());
        let shorter = record::create(VERSION, &longer, 0);
        assert_eq!(Heartbeat::decode(&shorter), None, "a load has lost a field");
    }

    #[test]
    fn averages_travel_where_there_are_some() {
        let mut some = heartbeat();
        let plain = some.encode().len();
        let average = Average {
            latency_ns: 10,
            penalty_ns: 11,
            fed_at: WallTime::from_ns(12),
        };
        some.loads[1].average = Some(average);
        let bytes = some.encode();
        assert_eq!(bytes.len(), plain + 2 * usize::from(LOAD_AVERAGED - LOAD));
        assert_eq!(Heartbeat::decode(&bytes), Some(some));
    }

    #[test]
    fn rl_10_so_many_clients_find_room() {
        let mut many = heartbeat();
        many.clients = vec![many.clients[0]; CLIENTS_MAX + 1];
        let read = Heartbeat::decode(&many.encode()).expect("a record");
        assert_eq!((read.clients.len(), read.loads.len()), (CLIENTS_MAX, 2));
    }

    #[test]
    fn a_vm_is_left_behind_once_it_picks_no_more() {
        let now = WallTime::from_ns(100 * REVISION_NS);
        let picked = |ago_ns| Heartbeat {
            at: now,
            picked_at: WallTime::from_ns(now.ns() - ago_ns),
            ..heartbeat()
        };
        assert!(picked(IDLE_NS).is_left_behind(4));
        assert!(!picked(IDLE_NS - 1).is_left_behind(4), "it picks");
        assert!(!picked(IDLE_NS).is_left_behind(3), "up to date");
        // It picked, wrote, and has been busy ever since.
        let busy = [picked(IDLE_NS - 1)];
        let later = WallTime::from_ns(now.ns() + REVISION_NS - 1);
        assert!(!all_run(&busy, 4, later), "it still runs the old one");
        let left = [picked(IDLE_NS)];
        assert!(all_run(&left, 4, later), "nobody waits for it");
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

    #[test]
    fn workers_agree_once_all_that_live_and_pick_run_one_revision() {
        let now = WallTime::from_ns(9 * REVISION_NS);
        let heartbeat = |ago_ns, revision, picked_at| Heartbeat {
            at: WallTime::from_ns(now.ns() - ago_ns),
            revision,
            picked_at,
            ..Heartbeat::default()
        };
        let fresh = heartbeat(0, 7, now);
        for missing in [
            heartbeat(HEARTBEAT_NS, 7, now),
            heartbeat(REVISION_NS - 1, 7, now),
            heartbeat(0, 6, now),
        ] {
            assert!(!all_run(&[fresh.clone(), missing], 7, now));
        }
        let left_behind = heartbeat(0, 6, WallTime::default());
        let gone = heartbeat(REVISION_NS, 6, now);
        assert!(all_run(&[fresh, gone, left_behind], 7, now));
    }
}
