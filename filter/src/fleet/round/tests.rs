//! Few workers are read at once, many in turns.

use super::*;
use crate::base::hash::LoadKey;
use crate::cluster::load::{LoadReport, Loads};
use crate::fleet::heartbeat::{Heartbeat, LOADS_MAX};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const START: WallTime = WallTime::from_ns(1_000_000_000_000);
const TICK_NS: u64 = 100_000_000;

/// Workers that all have streams on all endpoints, as one more worker reads them.
struct Crowd {
    told: Vec<Vec<u8>>,
    loads: Loads,
    round: Round,
    now: WallTime,
}

impl Crowd {
    fn new(workers: u32, endpoints: u64) -> Self {
        let mut loads = Loads::default();
        let key = |endpoint: u64| LoadKey(endpoint.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let held: Vec<_> = (0..endpoints).map(|it| loads.of(key(it), START)).collect();
        held.iter().for_each(|load| load.begin());
        let heartbeat = |vm: u32| Heartbeat {
            vm: vm.into(),
            holds_leaving: true,
            loads: (0..endpoints)
                .map(|it| LoadReport {
                    key: key(it),
                    in_flight: 1,
                    estimate_ns: 1_000_000,
                    average: None,
                })
                .collect(),
            ..Heartbeat::default()
        };
        Crowd {
            told: (1..workers).map(|vm| heartbeat(vm).encode()).collect(),
            loads,
            round: Round::default(),
            now: START,
        }
    }

    /// One tick, as a VM does it; how many reports it has read.
    fn tick(&mut self) -> usize {
        self.now = self.now.plus(TICK_NS);
        let others = u32::try_from(self.told.len()).unwrap();
        self.round.begin(0..others, true, self.now);
        let mut read = 0;
        while read < REPORTS_PER_TICK
            && let Some(slot) = self.round.take_next()
        {
            let told = Heartbeat::decode(&self.told[slot as usize]).unwrap();
            read += told.loads.len();
            self.loads.gather(told.loads.into_iter());
        }
        if self.round.end() {
            self.loads.turn_over(self.now);
        }
        read
    }

    /// The streams on an endpoint, the same on all.
    fn everywhere(&self) -> u32 {
        let mut all = self.loads.iter().map(|load| load.in_flight_everywhere());
        let first = all.next().unwrap();
        assert!(all.all(|it| it == first));
        first
    }
}

#[test]
fn few_workers_are_read_at_every_tick() {
    let mut crowd = Crowd::new(8, LOADS_MAX as u64);
    for _ in 0..3 {
        crowd.tick();
        assert_eq!(crowd.everywhere(), 8);
        assert_eq!(crowd.round.settled_at(), Some(crowd.now));
    }
}

#[test]
fn many_are_read_in_turns_and_count_once_all_are_read() {
    let mut crowd = Crowd::new(64, LOADS_MAX as u64);
    let mut read = 0;
    for tick in 1..=8 {
        assert_eq!(
            (crowd.everywhere(), crowd.round.settled_at()),
            (1, None),
            "{tick}"
        );
        let now = crowd.tick();
        assert!(now < REPORTS_PER_TICK + LOADS_MAX, "{now} in one tick");
        read += now;
    }
    assert_eq!(read, 63 * LOADS_MAX);
    assert_eq!(crowd.everywhere(), 64);
    assert_eq!(
        crowd.round.settled_at(),
        Some(START.plus(TICK_NS)),
        "as of its begin"
    );
    // The next ones replace them.
    crowd.told.truncate(10);
    for _ in 0..2 {
        assert_eq!(crowd.everywhere(), 64);
        crowd.tick();
    }
    assert_eq!(crowd.everywhere(), 11);
}

#[test]
fn what_was_read_before_workers_settled_or_leaves_something_out_says_nothing_of_who_leaves() {
    let mut round = Round::default();
    let ends = |round: &mut Round, settled, cut| {
        round.begin(0..2, settled, START);
        while round.take_next().is_some() {}
        if cut {
            round.note_cut();
        }
        assert!(round.end());
        round.settled_at()
    };
    assert_eq!(ends(&mut round, true, false), Some(START));
    assert_eq!(ends(&mut round, false, false), None);
    assert_eq!(ends(&mut round, true, true), None);
    assert_eq!(ends(&mut round, true, false), Some(START));
    assert!(!round.end(), "none is under way");
    assert_eq!(round.settled_at(), Some(START), "what is known stays known");
}
