//! Steps of the wall clock, as one VM sees them from tick to tick.

use crate::base::time::WallTime;

/// More than ever passes between the ticks of a VM that is not busy, nanoseconds.
const PAUSE_MAX_NS: u64 = 1_000_000_000;
/// More than passes between those of a busy one.
const STEP_NS: u64 = 5_000_000_000;
/// In which every worker has written a heartbeat by the clock as it is now.
const SETTLED_NS: u64 = 500_000_000;

/// The clock as it was read at the ticks of one VM. After a step every note in shared data seems old,
/// or from ahead, until it is written anew.
#[derive(Debug, Default)]
pub struct Clock {
    read: Option<WallTime>,
    settling_ns: u64,
}

impl Clock {
    /// Takes in the reading of a tick; whether the clock has stepped since the last one.
    pub fn tick(&mut self, now: WallTime) -> bool {
        let Some(before) = self.read.replace(now) else {
            return false;
        };
        let moved_ns = now.age_of(before);
        self.settling_ns = match moved_ns > PAUSE_MAX_NS {
            true => SETTLED_NS,
            false => self.settling_ns.saturating_sub(moved_ns),
        };
        moved_ns > STEP_NS
    }

    /// Whether ages can be told: no step was a moment ago.
    pub fn is_steady(&self) -> bool {
        self.settling_ns == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const TICK_NS: u64 = 100_000_000;

    #[test]
    fn a_clock_is_steady_again_half_a_second_after_a_step() {
        let hour = 36_000 * TICK_NS;
        let start = WallTime::from_ns(10 * hour);
        for (moved, stepped) in [
            (start.plus(hour), true),
            (WallTime::from_ns(9 * hour), true),
            (start.plus(20 * TICK_NS), false),
        ] {
            let mut clock = Clock::default();
            assert!(!clock.tick(start) && clock.is_steady(), "the first");
            assert!(!clock.tick(start.plus(TICK_NS)) && clock.is_steady());
            assert_eq!(clock.tick(moved), stepped, "{moved:?}");
            for tick in 1..=5 {
                assert!(!clock.is_steady(), "{moved:?}: {tick}");
                assert!(!clock.tick(moved.plus(tick * TICK_NS)));
            }
            assert!(clock.is_steady(), "{moved:?}");
        }
    }
}
