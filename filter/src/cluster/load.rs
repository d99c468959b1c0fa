//! How loaded an endpoint is, as one worker knows it.
//!
//! A [`Load`] belongs to an address of a cluster, not to a configuration: [`Loads`] hands the same
//! one to every configuration that names the address, so that counts and estimates outlive updates,
//! and streams that hold one can never change the wrong count.

use std::cell::Cell;
use std::rc::Rc;

use super::averages::{Average, Ranking};
use super::ewma::PeakEwma;
use crate::base::hash::{KeyMap, LoadKey};
use crate::base::time::WallTime;
use crate::config::Metric;

/// An estimate below this is as good as forgotten.
const FORGOTTEN_NS: f64 = 10_000.0;
/// A failed answer counts as this at least.
const FAILED_NS: f64 = 1_000_000_000.0;

/// One endpoint's load.
#[derive(Debug)]
pub struct Load {
    /// Names it among workers; see [`crate::base::hash::load_key`].
    pub key: LoadKey,
    /// Since when this worker knows it; 1970: from the start.
    pub known_since: WallTime,
    in_flight: Cell<u32>,
    /// Failures in a row, as this worker sees them.
    failed: Cell<u8>,
    elsewhere: Cell<u32>,
    time: Cell<PeakEwma>,
    measured: Cell<bool>,
    time_elsewhere: Cell<PeakEwma>,
    /// What the workers told that were read so far, where not all were: it does not count yet.
    gathered: Cell<u32>,
    gathered_ns: Cell<f64>,
    /// The running weight of smooth weighted round robin, or the number of the last pick by Tiered,
    /// once there is one.
    pub turn: Cell<Option<i64>>,
    /// What Tiered knows of it.
    pub ranking: Ranking,
}

impl Load {
    fn new(key: LoadKey, known_since: WallTime, now: WallTime) -> Self {
        Load {
            key,
            known_since,
            in_flight: Cell::new(0),
            failed: Cell::new(0),
            elsewhere: Cell::new(0),
            time: Cell::new(PeakEwma::new(now)),
            measured: Cell::new(false),
            time_elsewhere: Cell::new(PeakEwma::none()),
            gathered: Cell::new(0),
            gathered_ns: Cell::new(0.0),
            turn: Cell::new(None),
            ranking: Ranking::default(),
        }
    }

    /// A stream begins here.
    pub fn begin(&self) {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
    }

    /// A stream that began here ends or moves on; never below zero (RG-20).
    pub fn end(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// This worker's streams in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Streams in flight on all workers, the others' as of their last report.
    pub fn in_flight_everywhere(&self) -> u32 {
        self.in_flight.get().saturating_add(self.elsewhere.get())
    }

    /// Takes in a measured time.
    pub fn observe(&self, value_ns: u64, now: WallTime) {
        let mut time = self.time.get();
        time.observe(value_ns, now);
        self.time.set(time);
        self.measured.set(true);
    }

    /// Notes a failure, and answers how many there were in a row.
    pub fn fail(&self) -> u32 {
        self.failed.set(self.failed.get().saturating_add(1));
        self.failed.get().into()
    }

    /// Ends a row of failures.
    pub fn succeed(&self) {
        self.failed.set(0);
    }

    /// The time that an answer counts as that failed, nanoseconds: however quick it was, twice what
    /// answers take here.
    pub fn failed_ns(&self, now: WallTime) -> u64 {
        (2.0 * self.time.get().at(now)).max(FAILED_NS) as u64
    }

    /// The load by a metric, before it is divided by the weight. Where another worker has measured
    /// and this one has not, its estimate replaces the initial guess; else the higher estimate counts.
    /// Forgotten estimates are all alike: where nothing can be measured the streams decide.
    pub fn cost(&self, metric: Metric, now: WallTime) -> f64 {
        let streams = f64::from(self.in_flight_everywhere());
        if !metric.is_time() {
            return streams;
        }
        let elsewhere = self.time_elsewhere.get().at(now);
        let here = self.time.get().at(now);
        let known_elsewhere = elsewhere > 0.0 && !self.measured.get();
        let estimate = if known_elsewhere {
            elsewhere
        } else {
            here.max(elsewhere)
        };
        (streams + 1.0) * estimate.max(FORGOTTEN_NS)
    }

    /// What this worker tells the others; `None` when there is nothing to tell.
    pub fn report(&self, now: WallTime) -> Option<LoadReport> {
        let estimate = if self.measured.get() {
            self.time.get().at(now)
        } else {
            0.0
        };
        let report = LoadReport {
            key: self.key,
            in_flight: self.in_flight.get(),
            estimate_ns: if estimate > FORGOTTEN_NS {
                estimate as u64
            } else {
                0
            },
            average: self.ranking.report(now),
        };
        let tells = report.in_flight > 0 || report.estimate_ns > 0 || report.average.is_some();
        tells.then_some(report)
    }

    fn gather(&self, report: &LoadReport) {
        let gathered = self.gathered.get().saturating_add(report.in_flight);
        self.gathered.set(gathered);
        let highest_ns = self.gathered_ns.get().max(report.estimate_ns as f64);
        self.gathered_ns.set(highest_ns);
        if let Some(average) = report.average {
            self.ranking.hear(average);
        }
    }

    fn turn_over(&self, now: WallTime) {
        self.elsewhere.set(self.gathered.take());
        let highest_ns = self.gathered_ns.take();
        self.time_elsewhere.set(match highest_ns > 0.0 {
            true => PeakEwma::of(highest_ns, now),
            false => PeakEwma::none(),
        });
        self.ranking.turn_over();
    }
}

/// What one worker tells the others of an endpoint's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadReport {
    /// [`Load::key`].
    pub key: LoadKey,
    /// Its streams in flight.
    pub in_flight: u32,
    /// Its estimate of the time; 0 where nothing was measured.
    pub estimate_ns: u64,
    /// Its averages, where the policy has some.
    pub average: Option<Average>,
}

/// All loads of one worker, by key.
#[derive(Debug, Default)]
pub struct Loads {
    by_key: KeyMap<Rc<Load>>,
    /// Those that are not there yet are new to the worker. To one that has just started none is.
    pub come_new: bool,
}

impl Loads {
    /// The load of a key, see [`crate::base::hash::load_key`]: the one there is, or a new one.
    pub fn of(&mut self, key: LoadKey, now: WallTime) -> Rc<Load> {
        let known_since = if self.come_new {
            now
        } else {
            WallTime::default()
        };
        self.by_key
            .entry(key.0)
            .or_insert_with(|| Rc::new(Load::new(key, known_since, now)))
            .clone()
    }

    /// Drops the loads that no configuration and no stream holds any more.
    pub fn prune(&mut self) {
        self.by_key.retain(|_, load| Rc::strong_count(load) > 1);
    }

    /// All loads, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Load> {
        self.by_key.values().map(Rc::as_ref)
    }

    /// Takes in what another worker tells; it counts once all have been read.
    pub fn gather(&self, reports: impl Iterator<Item = LoadReport>) {
        for report in reports {
            if let Some(load) = self.by_key.get(&report.key.0) {
                load.gather(&report);
            }
        }
    }

    /// All the others have been read: what they told replaces what they told before.
    pub fn turn_over(&self, now: WallTime) {
        self.iter().for_each(|load| load.turn_over(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Averaging;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> WallTime {
        WallTime::from_ns(seconds * SECOND)
    }

    fn report(key: u64, in_flight: u32, estimate_ns: u64) -> LoadReport {
        LoadReport {
            key: LoadKey(key),
            in_flight,
            estimate_ns,
            average: None,
        }
    }

    #[test]
    fn lb_7_where_nothing_can_be_measured_the_streams_decide() {
        let mut loads = Loads::default();
        let (old, new) = (loads.of(LoadKey(1), at(0)), loads.of(LoadKey(2), at(60)));
        let cost = |load: &Load, seconds| load.cost(Metric::Latency, at(seconds));
        assert!(cost(&old, 61) < cost(&new, 61), "unknown");
        assert_eq!(cost(&old, 70), cost(&new, 70));
        old.begin();
        for seconds in [70, 7000] {
            let twice = 2.0 * cost(&new, seconds);
            assert_eq!(cost(&old, seconds), twice, "after {seconds} s");
        }
    }

    #[test]
    fn rg_20_counts_never_go_below_zero() {
        let mut loads = Loads::default();
        let load = loads.of(LoadKey(1), at(0));
        load.end();
        assert_eq!(load.in_flight(), 0);
        load.begin();
        load.end();
        load.end();
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn rg_17_a_load_outlives_configurations_but_not_its_last_user() {
        let mut loads = Loads::default();
        let load = loads.of(LoadKey(1), at(0));
        load.begin();
        loads.prune();
        assert_eq!(loads.of(LoadKey(1), at(0)).in_flight(), 1);
        assert_eq!(
            loads.of(LoadKey(2), at(0)).in_flight(),
            0,
            "another cluster's load is another"
        );
        drop(load);
        loads.prune();
        assert_eq!(loads.iter().count(), 0);
    }

    #[test]
    fn averages_are_told_and_the_freshest_is_taken_in() {
        let told = |seconds, fed_at| LoadReport {
            average: Some(Average {
                latency_ns: seconds * SECOND,
                penalty_ns: 0,
                fed_at: at(fed_at),
            }),
            ..report(1, 0, 0)
        };
        let mut loads = Loads::default();
        let load = loads.of(LoadKey(1), at(0));
        load.ranking.configure(Some(Averaging::default()), at(0));
        assert_eq!(load.report(at(0)), None);
        let others = [told(3, 5), told(2, 7), told(1, 6)];
        loads.gather(others.into_iter());
        loads.turn_over(at(9));
        assert_eq!(load.ranking.at(at(9)).latency_ns, 2 * SECOND);
        loads.turn_over(at(9));
        assert_eq!(load.ranking.at(at(9)).latency_ns, 5 * SECOND);
        load.ranking.succeed(Some(SECOND), at(9));
        let own = load.report(at(9)).and_then(|report| report.average);
        assert_eq!(own, Some(load.ranking.at(at(9))));
    }

    #[test]
    fn others_reports_add_up_and_are_replaced() {
        let mut loads = Loads::default();
        let load = loads.of(LoadKey(1), at(0));
        load.begin();
        let slow = [report(1, 3, 7 * SECOND), report(1, 0, 4 * SECOND)];
        let others = [report(1, 2, 0), slow[0], slow[1], report(99, 9, 9)];
        loads.gather(others.into_iter());
        assert_eq!(load.in_flight_everywhere(), 1, "not all have been read");
        loads.turn_over(at(0));
        assert_eq!(load.in_flight_everywhere(), 6);
        assert_eq!(
            load.cost(Metric::Latency, at(0)),
            7.0 * 7e9,
            "another's estimate beats the guess, and the highest counts"
        );
        loads.gather(slow[1..].iter().copied());
        loads.turn_over(at(0));
        assert_eq!(load.cost(Metric::Latency, at(0)), 2.0 * 4e9);
        loads.turn_over(at(0));
        assert_eq!(load.in_flight_everywhere(), 1);
        assert_eq!(load.report(at(0)), Some(report(1, 1, 0)));
        load.observe(SECOND, at(0));
        assert_eq!(load.report(at(0)), Some(report(1, 1, SECOND)));
    }
}
