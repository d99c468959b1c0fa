//! What a tick takes a worker of an Envoy with many, natively and without the host's calls: it tells of its
//! loads, and reads who lives and some of what the others tell.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use pointsman_filter::base::hash::{KeySet, LoadKey, below};
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::load::{LoadReport, Loads};
use pointsman_filter::fleet::heartbeat::{Heartbeat, LOADS_MAX, all_run};
use pointsman_filter::fleet::round::{REPORTS_PER_TICK, Round};
use pointsman_filter::fleet::telling::Turns;
use serde_json::{Value, json};

use crate::figures::{Spread, rounded};

/// Workers of the Envoy, each with streams on as many endpoints as a heartbeat holds.
const WORKERS: u32 = 64;
const ROUNDS: usize = 30;
const START: WallTime = WallTime::from_ns(1_800_000_000_000_000_000);
/// When every tick is: all heartbeats are of it, and what was measured has aged.
const NOW: WallTime = WallTime::from_ns(START.ns() + 100_000_000);

/// One worker, and the records of all in shared data.
struct Worker {
    loads: Loads,
    turns: Turns,
    round: Round,
    heartbeats: Vec<Vec<u8>>,
    told: Vec<Vec<u8>>,
}

impl Worker {
    fn new() -> Self {
        let mut loads = Loads::default();
        let key = |endpoint: usize| LoadKey(below(1, &endpoint.to_string()));
        for endpoint in 0..LOADS_MAX {
            let load = loads.of(key(endpoint), START);
            load.begin();
            load.observe(1_000_000, START);
        }
        let report = |endpoint| LoadReport {
            key: key(endpoint),
            in_flight: 1,
            estimate_ns: 1_000_000,
            average: None,
        };
        let telling = |vm: u32| Heartbeat {
            vm: vm.into(),
            at: NOW,
            revision: 1,
            holds_leaving: true,
            loads: (0..LOADS_MAX).map(report).collect(),
            ..Heartbeat::default()
        };
        let all: Vec<Heartbeat> = (1..=WORKERS).map(telling).collect();
        Worker {
            loads,
            turns: Turns::default(),
            round: Round::default(),
            told: all.iter().map(Heartbeat::encode).collect(),
            heartbeats: all.into_iter().map(|it| it.alone().encode()).collect(),
        }
    }

    /// As the module does it; whether it was the last of a round.
    fn tick(&mut self) -> bool {
        let reports = self.loads.iter().filter_map(|load| load.report(NOW));
        let reports: Vec<LoadReport> = reports.collect();
        let (loads, holds_leaving) = self.turns.choose(reports, KeySet::default, LOADS_MAX);
        let own = Heartbeat {
            holds_leaving,
            loads,
            ..Heartbeat::default()
        };
        black_box((own.encode(), own.alone().encode()));
        let records = self.heartbeats.iter();
        let live: Vec<Heartbeat> = records.filter_map(|it| Heartbeat::decode(it)).collect();
        let settled = all_run(&live, 1, NOW);
        // The first is its own.
        self.round.begin(1..WORKERS, settled, NOW);
        let mut left = REPORTS_PER_TICK;
        while left > 0
            && let Some(slot) = self.round.take_next()
        {
            let record = usize::try_from(slot)
                .ok()
                .and_then(|slot| self.told.get(slot));
            let Some(told) = record.and_then(|record| Heartbeat::decode(record)) else {
                continue;
            };
            left = left.saturating_sub(told.loads.len());
            self.loads.gather(told.loads.into_iter());
        }
        let over = self.round.end();
        if over {
            self.loads.turn_over(NOW);
        }
        over
    }
}

/// Nanoseconds of a tick: of those of a round, the median of the dearest.
pub fn figure() -> Result<Value> {
    let mut worker = Worker::new();
    let dearest = |_| {
        let mut dearest = 0.0_f64;
        loop {
            let start = Instant::now();
            let over = worker.tick();
            dearest = dearest.max(start.elapsed().as_secs_f64() * 1e9);
            if over {
                break dearest;
            }
        }
    };
    let rounds: Vec<f64> = (0..ROUNDS).map(dearest).collect();
    let spread = Spread::of(rounds).context("no rounds")?;
    Ok(json!({"ns": rounded(spread.median), "instructions": null}))
}
