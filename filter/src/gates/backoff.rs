//! How long a backend that failed is left alone (RT-1).

use crate::base::random::SplitMix64;
use crate::base::time::nanos;
use crate::config::Backoff;

/// The wait after a counted failure, nanoseconds: min(max, base × k) with k an even whole number in
/// 1 … max(1, 2ⁿ − 1), where n is the number of failures counted before this one, at most
/// `max_tries`. So with the defaults: 1, 1, 1–3, 1–7, 1–15, 1–31, then 1–63 s (RT-4: the jitter is
/// the draw itself, so that backends that failed together do not come back together).
pub fn wait_ns(backoff: &Backoff, failures_before: u32, rng: &mut SplitMix64) -> u64 {
    let n = failures_before.min(backoff.max_tries);
    let steps_max = 1u64
        .checked_shl(n)
        .unwrap_or(u64::MAX)
        .saturating_sub(1)
        .max(1);
    let steps = rng.between(1, steps_max);
    let wait = nanos(backoff.base).saturating_mul(steps);
    wait.min(nanos(backoff.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    fn waits(backoff: &Backoff, failures_before: u32) -> BTreeSet<u64> {
        let mut rng = SplitMix64::new(7);
        (0..4000)
            .map(|_| wait_ns(backoff, failures_before, &mut rng))
            .collect()
    }

    #[test]
    fn rt_1_waits_after_each_failure() {
        let backoff = Backoff::default();
        for (n, longest) in [
            (0, 1),
            (1, 1),
            (2, 3),
            (3, 7),
            (4, 15),
            (5, 31),
            (6, 63),
            (7, 63),
        ] {
            let expected: BTreeSet<u64> = (1..=longest).map(|s| s * SECOND).collect();
            assert_eq!(waits(&backoff, n), expected, "after {n} failures");
        }
    }

    #[test]
    fn rt_1_the_cap_holds_and_the_base_scales() {
        let backoff = Backoff {
            max: Duration::from_secs(2),
            ..Backoff::default()
        };
        assert_eq!(waits(&backoff, 6), BTreeSet::from([SECOND, 2 * SECOND]));
        let backoff = Backoff {
            base: Duration::from_millis(100),
            ..Backoff::default()
        };
        assert_eq!(waits(&backoff, 0), BTreeSet::from([SECOND / 10]));
        let extreme = Backoff {
            base: Duration::MAX,
            max: Duration::MAX,
            max_tries: u32::MAX,
            ..Backoff::default()
        };
        assert!(waits(&extreme, u32::MAX).contains(&u64::MAX));
    }

    #[test]
    fn rt_4_two_proxies_draw_different_waits() {
        let day = |seed| {
            let mut rng = SplitMix64::new(seed);
            (0..8)
                .map(|n| wait_ns(&Backoff::default(), n, &mut rng))
                .collect::<Vec<u64>>()
        };
        assert_ne!(day(1), day(2));
        assert_eq!(day(1), day(1));
    }
}
