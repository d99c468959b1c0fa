//! How much of its weight an endpoint has that has just come, or come back (`slowStart`).

use crate::base::time::{WallTime, nanos};
use crate::config::SlowStart;

/// All of a weight: shares are so many parts of it.
pub const FULL: u32 = 1000;

/// The way from a part of a weight to all of it, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    /// How long it is, nanoseconds.
    pub window_ns: u64,
    /// Where it begins.
    min: u32,
}

impl Ramp {
    /// The ramp of a cluster.
    pub fn new(config: SlowStart) -> Self {
        let parts = config.min_weight_percent.saturating_mul(FULL);
        Ramp {
            window_ns: nanos(config.window),
            min: parts.checked_div(100).unwrap_or(FULL),
        }
    }

    /// Whether one who came then has all its weight.
    pub fn is_over(&self, since: WallTime, now: WallTime) -> bool {
        now.age_of(since) >= self.window_ns
    }

    /// The part of its weight that one has who came then.
    pub fn share(&self, since: WallTime, now: WallTime) -> u32 {
        let grown = now.age_of(since).saturating_mul(u64::from(FULL));
        let grown = grown.checked_div(self.window_ns).unwrap_or(u64::MAX);
        u32::try_from(grown).unwrap_or(FULL).clamp(self.min, FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_weight_grows_evenly_from_its_least_part() {
        let ramp = |seconds, min_weight_percent| {
            Ramp::new(SlowStart {
                window: Duration::from_secs(seconds),
                min_weight_percent,
            })
        };
        let at = |ms: u64| WallTime::from_ns(1000 * SECOND + ms * 1_000_000);
        for (seconds, percent, ms, share) in [
            (30, 10, 0, 100),
            (30, 10, 2_999, 100),
            (30, 10, 3_030, 101),
            (30, 10, 15_000, 500),
            (30, 10, 29_970, 999),
            (30, 10, 30_000, 1000),
            (30, 10, 900_000, 1000),
            (10, 1, 0, 10),
            (10, 50, 4_000, 500),
            (10, 50, 7_500, 750),
            (10, 100, 0, 1000),
            (3600, 1, 1_800_000, 500),
        ] {
            let share_then = ramp(seconds, percent).share(at(0), at(ms));
            assert_eq!(
                share_then, share,
                "{percent} % of {seconds} s after {ms} ms"
            );
            let is_over = ramp(seconds, percent).is_over(at(0), at(ms));
            assert_eq!(is_over, ms >= seconds * 1000);
        }
        let ramp = ramp(30, 10);
        assert_eq!(
            ramp.share(WallTime::default(), at(0)),
            FULL,
            "known from the start"
        );
        assert_eq!(
            ramp.share(at(3_600_000), at(0)),
            FULL,
            "the clock has stepped back"
        );
        assert_eq!(
            ramp.share(at(5), at(0)),
            100,
            "another worker's clock is a little ahead"
        );
    }
}
