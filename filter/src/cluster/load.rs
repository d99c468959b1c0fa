//! How loaded an endpoint is, as one worker knows it.
//!
//! A [`Load`] belongs to an address of a cluster, not to a configuration: [`Loads`] hands the same
//! one to every configuration that names the address, so that counts and estimates outlive updates,
//! and streams that hold one can never change the wrong count.

use std::cell::Cell;
use std::rc::Rc;

use super::ewma::PeakEwma;
use crate::base::hash::{KeyMap, LoadKey};
use crate::base::time::WallTime;
use crate::config::Metric;

/// An estimate below this is as good as forgotten.
const FORGOTTEN_NS: f64 = 10_000.0;

/// One endpoint's load.
#[derive(Debug)]
pub struct Load {
    /// Names it among workers; see [`crate::base::hash::load_key`].
    pub key: LoadKey,
    in_flight: Cell<u32>,
    elsewhere: Cell<u32>,
    time: Cell<PeakEwma>,
    measured: Cell<bool>,
    time_elsewhere: Cell<PeakEwma>,
    /// The running weight of smooth weighted round robin, once there is one.
    pub turn: Cell<Option<i64>>,
}

impl Load {
    fn new(key: LoadKey, now: WallTime) -> Self {
        Load {
            key,
            in_flight: Cell::new(0),
            elsewhere: Cell::new(0),
            time: Cell::new(PeakEwma::new(now)),
            measured: Cell::new(false),
            time_elsewhere: Cell::new(PeakEwma::none()),
            turn: Cell::new(None),
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
        };
        (report.in_flight > 0 || report.estimate_ns > 0).then_some(report)
    }

    fn forget_others(&self) {
        self.elsewhere.set(0);
        self.time_elsewhere.set(PeakEwma::none());
    }

    fn add_other(&self, report: &LoadReport, now: WallTime) {
        let elsewhere = self.elsewhere.get().saturating_add(report.in_flight);
        self.elsewhere.set(elsewhere);
        let estimate = PeakEwma::of(report.estimate_ns as f64, now);
        if estimate.peak_ns() > self.time_elsewhere.get().peak_ns() {
            self.time_elsewhere.set(estimate);
        }
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
}

/// All loads of one worker, by key.
#[derive(Debug, Default)]
pub struct Loads(KeyMap<Rc<Load>>);

impl Loads {
    /// The load of a key, see [`crate::base::hash::load_key`]: the one there is, or a new one.
    pub fn of(&mut self, key: LoadKey, now: WallTime) -> Rc<Load> {
        self.0
            .entry(key.0)
            .or_insert_with(|| Rc::new(Load::new(key, now)))
            .clone()
    }

    /// Drops the loads that no configuration and no stream holds any more.
    pub fn prune(&mut self) {
        self.0.retain(|_, load| Rc::strong_count(load) > 1);
    }

    /// All loads, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Load> {
        self.0.values().map(Rc::as_ref)
    }

    /// Replaces what other workers told by what they tell now.
    pub fn merge(&self, reports: impl Iterator<Item = LoadReport>, now: WallTime) {
        self.iter().for_each(Load::forget_others);
        for report in reports {
            if let Some(load) = self.0.get(&report.key.0) {
                load.add_other(&report, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn others_reports_add_up_and_are_replaced() {
        let mut loads = Loads::default();
        let load = loads.of(LoadKey(1), at(0));
        load.begin();
        let others = [report(1, 2, 0), report(1, 3, 7 * SECOND), report(99, 9, 9)];
        loads.merge(others.into_iter(), at(0));
        assert_eq!(load.in_flight_everywhere(), 6);
        assert_eq!(
            load.cost(Metric::Latency, at(0)),
            7.0 * 7e9,
            "another's estimate beats the guess"
        );
        loads.merge(std::iter::empty(), at(0));
        assert_eq!(load.in_flight_everywhere(), 1);
        assert_eq!(load.report(at(0)), Some(report(1, 1, 0)));
        load.observe(SECOND, at(0));
        assert_eq!(load.report(at(0)), Some(report(1, 1, SECOND)));
    }
}
