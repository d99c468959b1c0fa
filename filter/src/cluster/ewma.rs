//! The peak EWMA of a time.

use crate::base::time::WallTime;

/// Time in which an estimate falls to 1/e (LB-9).
const DECAY_NS: f64 = 1e9;
/// What a time is taken for before it was measured, so that a newcomer does not take everything.
const INITIAL_NS: f64 = 50e6;

/// Peak EWMA of a time: jumps up to a peak at once, forgets it with a decay of one second, also
/// while nothing is measured (LB-9; what Finagle's peak EWMA comes to when every pick reads it). So
/// a measurement below the estimate changes nothing, and one that equals it neither.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeakEwma {
    estimate_ns: f64,
    at: WallTime,
}

impl PeakEwma {
    /// The estimate before the first measurement.
    pub fn new(now: WallTime) -> Self {
        PeakEwma {
            estimate_ns: INITIAL_NS,
            at: now,
        }
    }

    /// No estimate.
    pub fn none() -> Self {
        PeakEwma::of(0.0, WallTime::default())
    }

    /// An estimate that was made elsewhere.
    pub fn of(estimate_ns: f64, at: WallTime) -> Self {
        PeakEwma { estimate_ns, at }
    }

    /// The estimate at `now`, nanoseconds.
    pub fn at(&self, now: WallTime) -> f64 {
        self.estimate_ns * self.kept(now)
    }

    /// Takes a measurement in. One that changes nothing leaves every bit as it is: the rounding of two
    /// endpoints' estimates would decide their ties, for hundreds of picks.
    pub fn observe(&mut self, value_ns: u64, now: WallTime) {
        let value_ns = value_ns as f64;
        if value_ns > self.at(now) {
            *self = PeakEwma::of(value_ns, now);
        }
    }

    /// A clock that steps back forgets as well: an estimate from the future would hold its backend
    /// down until the clock has caught up.
    fn kept(&self, now: WallTime) -> f64 {
        (-(now.age_of(self.at) as f64) / DECAY_NS).exp()
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

    #[test]
    fn lb_9_peak_ewma_vectors() {
        let mut ewma = PeakEwma::new(at(0));
        assert_eq!(ewma.at(at(0)), 50e6, "a newcomer is taken for 50 ms");
        assert!(
            (ewma.at(at(1)) - 50e6 / std::f64::consts::E).abs() < 1.0,
            "decays when read"
        );
        ewma.observe(SECOND, at(0));
        assert_eq!(ewma.at(at(0)), 1e9, "jumps up at once");
        ewma.observe(0, at(1));
        assert!((ewma.at(at(1)) - 1e9 / std::f64::consts::E).abs() < 1.0);
        assert!(ewma.at(at(6)) < 3e6, "a stall is forgotten within some 5 s");
        assert!(
            PeakEwma::new(at(3600)).at(at(0)) < 1.0,
            "a clock that steps back holds nobody down"
        );
        let mut again = PeakEwma::new(at(0));
        let before = again.at(at(9));
        again.observe(before as u64, at(9));
        assert!(
            (again.at(at(9)) - before).abs() < 1.0,
            "no news changes nothing"
        );
    }

    #[test]
    fn measurements_below_the_estimate_leave_ties_as_they_are() {
        let newcomer = PeakEwma::new(at(1));
        let mut measured = newcomer;
        for ms in 1..100 {
            measured.observe(1_000_000, at(1).plus(ms * 1_000_000));
        }
        assert_eq!(measured, newcomer);
    }
}
