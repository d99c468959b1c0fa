//! How loaded an endpoint is, as one worker knows it.
//!
//! A [`Load`] belongs to an address of a cluster, not to a configuration: [`Loads`] hands the same
//! one to every configuration that names the address, so that counts and estimates outlive updates,
//! and streams that hold one can never change the wrong count.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::keyed::KeyMap;
use crate::config::Metric;

/// Time in which an estimate falls to 1/e (LB-9).
const DECAY_NS: f64 = 1e9;
/// What a time is taken for before it was measured, so that a newcomer does not take everything.
const INITIAL_NS: f64 = 50e6;
/// An estimate below this is as good as forgotten.
const FORGOTTEN_NS: f64 = 10_000.0;

/// Peak EWMA of a time: jumps up to a peak at once, forgets it with a decay of one second, also
/// while nothing is measured (LB-9; what Finagle's peak EWMA comes to when every pick reads it). So
/// a measurement below the estimate changes nothing, and one that equals it neither.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeakEwma {
    estimate_ns: f64,
    at_ns: u64,
}

impl PeakEwma {
    /// The estimate before the first measurement.
    pub fn new(now_ns: u64) -> Self {
        PeakEwma {
            estimate_ns: INITIAL_NS,
            at_ns: now_ns,
        }
    }

    /// The estimate at `now_ns`, nanoseconds.
    pub fn at(&self, now_ns: u64) -> f64 {
        self.estimate_ns * self.kept(now_ns)
    }

    /// Takes a measurement in.
    pub fn observe(&mut self, value_ns: u64, now_ns: u64) {
        self.estimate_ns = self.at(now_ns).max(value_ns as f64);
        self.at_ns = now_ns;
    }

    /// A clock that steps back forgets as well: an estimate from the future would hold its backend
    /// down until the clock has caught up.
    fn kept(&self, now_ns: u64) -> f64 {
        (-(now_ns.abs_diff(self.at_ns) as f64) / DECAY_NS).exp()
    }
}

/// One endpoint's load.
#[derive(Debug)]
pub struct Load {
    /// Names it among workers; see [`hash::load_key`].
    pub key: u64,
    in_flight: Cell<u32>,
    elsewhere: Cell<u32>,
    time: Cell<PeakEwma>,
    measured: Cell<bool>,
    time_elsewhere: Cell<PeakEwma>,
    /// The running weight of smooth weighted round robin.
    pub turn: Cell<i64>,
}

impl Load {
    fn new(key: u64, now_ns: u64) -> Self {
        let none = PeakEwma {
            estimate_ns: 0.0,
            at_ns: now_ns,
        };
        Load {
            key,
            in_flight: Cell::new(0),
            elsewhere: Cell::new(0),
            time: Cell::new(PeakEwma::new(now_ns)),
            measured: Cell::new(false),
            time_elsewhere: Cell::new(none),
            turn: Cell::new(0),
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

    /// Streams in flight on all workers, the others' as of their last word.
    pub fn in_flight_everywhere(&self) -> u32 {
        self.in_flight.get().saturating_add(self.elsewhere.get())
    }

    /// Takes in a measured time.
    pub fn observe(&self, value_ns: u64, now_ns: u64) {
        let mut time = self.time.get();
        time.observe(value_ns, now_ns);
        self.time.set(time);
        self.measured.set(true);
    }

    /// The load by a metric, before it is divided by the weight. Where another worker has measured
    /// and this one has not, its word replaces the initial guess; else the higher estimate counts.
    /// Forgotten estimates are all alike: where nothing can be measured the streams decide.
    pub fn cost(&self, metric: Metric, now_ns: u64) -> f64 {
        let streams = f64::from(self.in_flight_everywhere());
        if !metric.is_time() {
            return streams;
        }
        let elsewhere = self.time_elsewhere.get().at(now_ns);
        let here = self.time.get().at(now_ns);
        let known_elsewhere = elsewhere > 0.0 && !self.measured.get();
        let estimate = if known_elsewhere {
            elsewhere
        } else {
            here.max(elsewhere)
        };
        (streams + 1.0) * estimate.max(FORGOTTEN_NS)
    }

    /// What this worker tells the others: streams in flight and the estimate in nanoseconds, 0
    /// where nothing was measured; `None` when there is nothing to tell.
    pub fn word(&self, now_ns: u64) -> Option<(u32, u64)> {
        let estimate = if self.measured.get() {
            self.time.get().at(now_ns)
        } else {
            0.0
        };
        let estimate = if estimate > FORGOTTEN_NS {
            estimate as u64
        } else {
            0
        };
        let word = (self.in_flight.get(), estimate);
        (word != (0, 0)).then_some(word)
    }

    fn forget_others(&self) {
        self.elsewhere.set(0);
        self.time_elsewhere.set(PeakEwma {
            estimate_ns: 0.0,
            at_ns: 0,
        });
    }

    fn add_other(&self, in_flight: u32, estimate_ns: u64, now_ns: u64) {
        self.elsewhere
            .set(self.elsewhere.get().saturating_add(in_flight));
        if estimate_ns as f64 > self.time_elsewhere.get().estimate_ns {
            let word = PeakEwma {
                estimate_ns: estimate_ns as f64,
                at_ns: now_ns,
            };
            self.time_elsewhere.set(word);
        }
    }
}

/// All loads of one worker, by key.
#[derive(Debug, Default)]
pub struct Loads(KeyMap<Rc<Load>>);

impl Loads {
    /// The load of a key, see [`crate::base::hash::load_key`]: the one there is, or a new one.
    pub fn of(&mut self, key: u64, now_ns: u64) -> Rc<Load> {
        self.0
            .entry(key)
            .or_insert_with(|| Rc::new(Load::new(key, now_ns)))
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

    /// Replaces what other workers said by what they say now: (key, in flight, estimate).
    pub fn merge(&self, words: impl Iterator<Item = (u64, u32, u64)>, now_ns: u64) {
        self.iter().for_each(Load::forget_others);
        for (key, in_flight, estimate_ns) in words {
            if let Some(load) = self.0.get(&key) {
                load.add_other(in_flight, estimate_ns, now_ns);
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

    #[test]
    fn lb_9_peak_ewma_vectors() {
        let mut ewma = PeakEwma::new(0);
        assert_eq!(ewma.at(0), 50e6, "a newcomer is taken for 50 ms");
        assert!(
            (ewma.at(SECOND) - 50e6 / std::f64::consts::E).abs() < 1.0,
            "decays when read"
        );
        ewma.observe(SECOND, 0);
        assert_eq!(ewma.at(0), 1e9, "jumps up at once");
        ewma.observe(0, SECOND);
        assert!((ewma.at(SECOND) - 1e9 / std::f64::consts::E).abs() < 1.0);
        assert!(
            ewma.at(6 * SECOND) < 3e6,
            "a stall is forgotten within some 5 s"
        );
        assert!(
            PeakEwma::new(3600 * SECOND).at(0) < 1.0,
            "a clock that steps back holds nobody down"
        );
        let mut again = PeakEwma::new(0);
        let before = again.at(9 * SECOND);
        again.observe(before as u64, 9 * SECOND);
        assert!(
            (again.at(9 * SECOND) - before).abs() < 1.0,
            "no news changes nothing"
        );
    }

    #[test]
    fn lb_7_where_nothing_can_be_measured_the_streams_decide() {
        let mut loads = Loads::default();
        let (old, new) = (loads.of(1, 0), loads.of(2, 60 * SECOND));
        let cost = |load: &Load, at| load.cost(Metric::Latency, at);
        assert!(cost(&old, 61 * SECOND) < cost(&new, 61 * SECOND), "unknown");
        assert_eq!(cost(&old, 70 * SECOND), cost(&new, 70 * SECOND));
        old.begin();
        for at in [70, 7000] {
            let twice = 2.0 * cost(&new, at * SECOND);
            assert_eq!(cost(&old, at * SECOND), twice, "after {at} s");
        }
    }

    #[test]
    fn rg_20_counts_never_go_below_zero() {
        let mut loads = Loads::default();
        let load = loads.of(1, 0);
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
        let load = loads.of(1, 0);
        load.begin();
        loads.prune();
        assert_eq!(loads.of(1, 0).in_flight(), 1);
        assert_eq!(
            loads.of(2, 0).in_flight(),
            0,
            "another cluster's load is another"
        );
        drop(load);
        loads.prune();
        assert_eq!(loads.iter().count(), 0);
    }

    #[test]
    fn others_words_add_up_and_are_replaced() {
        let mut loads = Loads::default();
        let load = loads.of(1, 0);
        load.begin();
        loads.merge(
            [(load.key, 2, 0), (load.key, 3, 7 * SECOND), (99, 9, 9)].into_iter(),
            0,
        );
        assert_eq!(load.in_flight_everywhere(), 6);
        assert_eq!(
            load.cost(Metric::Latency, 0),
            7.0 * 7e9,
            "another's word beats the guess"
        );
        loads.merge(std::iter::empty(), 0);
        assert_eq!(load.in_flight_everywhere(), 1);
        assert_eq!(load.word(0), Some((1, 0)));
        load.observe(SECOND, 0);
        assert_eq!(load.word(0), Some((1, SECOND)));
    }
}
