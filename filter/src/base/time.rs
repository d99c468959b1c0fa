//! Wall-clock time, and what holds when the clock steps back.
//!
//! All workers of an Envoy read one clock, so what one of them noted can be ahead of another's
//! reading by a moment, but by no more. Whatever is further ahead was noted before the clock
//! stepped back. Such a note counts by its distance ([`WallTime::age_of`]), ends nothing later than
//! it could have ([`WallTime::left_until`]), and measures nothing ([`WallTime::since`]).

use std::time::Duration;

/// How far the readings of two workers lie apart at most, nanoseconds.
const APART_NS: u64 = 5_000_000_000;

/// A reading of the wall clock, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// Later than never, and earlier than anything that is noted.
    pub const FIRST: WallTime = WallTime(1);

    /// A reading as it stands in a record.
    pub const fn from_ns(ns: u64) -> Self {
        WallTime(ns)
    }

    /// Nanoseconds since 1970, for a record.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// The time so many nanoseconds later.
    pub const fn plus(self, ns: u64) -> Self {
        WallTime(self.0.saturating_add(ns))
    }

    /// Measures: nanoseconds from `start` to now; 0 when the clock has stepped back behind it.
    pub const fn since(self, start: WallTime) -> u64 {
        self.0.saturating_sub(start.0)
    }

    /// The age of a note, nanoseconds. One from ahead is as old as it is ahead.
    pub const fn age_of(self, noted: WallTime) -> u64 {
        self.0.abs_diff(noted.0)
    }

    /// Nanoseconds until `end`; 0 when it is over, or further ahead than the `longest_ns` for which
    /// anybody may have set it.
    pub const fn left_until(self, end: WallTime, longest_ns: u64) -> u64 {
        let left_ns = end.since(self);
        if left_ns > longest_ns { 0 } else { left_ns }
    }

    /// Whether the clock has stepped back since something was noted.
    pub const fn stepped_back_since(self, noted: WallTime) -> bool {
        noted.since(self) > APART_NS
    }
}

/// A duration in nanoseconds, as far as 64 bits go.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: WallTime = WallTime::from_ns(100 * APART_NS);

    #[test]
    fn a_note_from_ahead_is_as_old_as_it_is_ahead() {
        assert_eq!(NOW.age_of(WallTime::from_ns(NOW.ns() - 7)), 7);
        assert_eq!(NOW.age_of(NOW.plus(7)), 7);
    }

    #[test]
    fn an_end_further_ahead_than_it_can_be_is_over() {
        assert_eq!(NOW.left_until(NOW.plus(7), 7), 7);
        assert_eq!(NOW.left_until(NOW.plus(8), 7), 0);
        assert_eq!(NOW.left_until(WallTime::default(), 7), 0);
    }

    #[test]
    fn a_clock_that_stepped_back_measures_nothing() {
        assert_eq!(NOW.plus(7).since(NOW), 7);
        assert_eq!(NOW.since(NOW.plus(7)), 0);
    }

    #[test]
    fn a_reading_a_moment_ahead_is_another_workers() {
        assert!(!NOW.stepped_back_since(NOW.plus(APART_NS)));
        assert!(NOW.stepped_back_since(NOW.plus(APART_NS + 1)));
    }

    #[test]
    fn the_longest_duration_still_counts() {
        assert_eq!(nanos(Duration::from_millis(2)), 2_000_000);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(NOW.plus(u64::MAX).ns(), u64::MAX);
    }
}
