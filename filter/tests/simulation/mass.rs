//! Half of ten thousand backends are out, and sixteen workers meet failures of the others all at once: no
//! failure is dropped, however often other workers outrun who notes it, and each is one write.

use std::collections::BTreeSet;
use std::rc::Rc;

use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::cluster::{Cluster, EndpointIndex};
use pointsman_filter::config::ClusterConfig;
use pointsman_filter::gates::Gates;
use pointsman_filter::gates::evidence::{Evidence, Met};
use pointsman_filter::gates::late::{LateChanges, StreamChange, apply_all};
use pointsman_filter::gates::transition::GateChange;
use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const BACKENDS: usize = 10_000;
const WORKERS: usize = 16;
const FAILURES: usize = 100;
/// Tries of one write, as the filter makes them.
const TRIES: u32 = 4;
/// In a hundred, how often another worker writes between a worker's reading and its writing.
const OUTRUN: u64 = 60;

struct Mass {
    rng: SplitMix64,
    now: WallTime,
    shared: (Vec<u8>, u32),
    cluster: Rc<Cluster>,
    late: Vec<LateChanges>,
    /// Workers that are at a write.
    busy: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    noted: usize,
    writes: u32,
    outrun: u32,
}

impl Mass {
    fn new(seed: u64) -> Self {
        let backend = |i: usize| json!({"address": format!("10.0.{}.{}:80", i / 250, i % 250)});
        let backends: Vec<_> = (0..BACKENDS).map(backend).collect();
        let config = ClusterConfig::parse(&json!({"name": "orders", "backends": backends}));
        let now = WallTime::from_ns(1_000_000_000_000_000);
        let cluster = Cluster::compile(&config.unwrap(), &mut Loads::default(), now, 0);
        let mut mass = Mass {
            rng: SplitMix64::new(seed),
            now,
            shared: (Vec::new(), 1),
            cluster: Rc::new(cluster),
            late: (0..WORKERS).map(|_| LateChanges::default()).collect(),
            busy: BTreeSet::new(),
            failed: BTreeSet::new(),
            noted: 0,
            writes: 0,
            outrun: 0,
        };
        let mut out: Vec<_> = (0..BACKENDS / 2).map(|place| mass.key(place)).collect();
        out.sort_unstable();
        let mut gates = Gates::default();
        gates.judge(&out, |_| false, now);
        mass.shared.0 = gates.encode();
        mass
    }

    fn key(&self, place: usize) -> pointsman_filter::base::hash::BackendKey {
        let mut keys = self.cluster.keys_at(EndpointIndex::of(place));
        keys.next().unwrap()
    }

    /// A worker that is at no write meets one that refuses.
    fn fails(&mut self) {
        let free: Vec<usize> = (0..WORKERS).filter(|it| !self.busy.contains(it)).collect();
        let worker = free[self.rng.below(free.len() as u32) as usize];
        let place = BACKENDS / 2 + self.rng.below(BACKENDS as u32 / 2) as usize;
        self.failed.insert(place);
        self.noted += 1;
        self.now = self.now.plus(1);
        let evidence = Evidence::new(&self.cluster, EndpointIndex::of(place), Met::Connect);
        let change = StreamChange {
            cluster: self.cluster.clone(),
            change: GateChange {
                evidence: vec![evidence],
                picked_at: self.now,
                now: self.now,
            },
            seed: self.rng.draw(),
        };
        let mut changes = self.late[worker].take(|_| true);
        changes.push(change);
        self.write(worker, changes, true);
    }

    /// A worker's compare-and-swap.
    fn write(&mut self, worker: usize, changes: Vec<StreamChange>, contested: bool) {
        self.busy.insert(worker);
        let written = (0..TRIES).any(|_| {
            let (blob, version) = self.shared.clone();
            let mut gates = Gates::decode(&blob);
            drop(apply_all(&changes, &mut gates));
            self.writes += 1;
            let others = contested && self.noted < FAILURES && self.busy.len() < 4;
            if others && self.rng.below(100) < OUTRUN as u32 {
                self.fails();
            }
            let first = self.shared.1 == version;
            if first {
                self.shared = (gates.encode(), version + 1);
            }
            first
        });
        if !written {
            self.outrun += 1;
            let late = &mut self.late[worker];
            changes.into_iter().for_each(|change| late.keep(change));
        }
        self.busy.remove(&worker);
    }

    fn tick(&mut self) {
        for worker in 0..WORKERS {
            let late = self.late[worker].take(|_| true);
            if !late.is_empty() {
                self.write(worker, late, false);
            }
        }
    }
}

#[test]
fn invariant_2_none_of_a_mass_of_failures_on_16_workers_is_dropped() {
    let mut mass = Mass::new(5);
    while mass.noted < FAILURES {
        mass.fails();
    }
    mass.tick();
    let gates = Gates::decode(&mass.shared.0);
    for place in &mass.failed {
        let gate = gates.of(mass.key(*place)).expect("a gate");
        assert!(
            gate.tries > 0 && gate.backs_off(mass.now),
            "{place}: {gate:?}"
        );
    }
    assert_eq!(gates.entries().len(), BACKENDS / 2 + mass.failed.len());
    println!(
        "{} failures: {} tries of writes, {} outrun; {} bytes",
        mass.noted,
        mass.writes,
        mass.outrun,
        mass.shared.0.len()
    );
    assert!(mass.outrun > 0, "nobody was late");
    assert!(mass.writes <= TRIES * (FAILURES + WORKERS) as u32);
}
