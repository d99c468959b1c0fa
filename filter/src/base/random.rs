//! SplitMix64: a small generator, seeded by the caller, so that one seed replays one day.

/// Increment and mixers of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
/// number generators").
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MIX_2: u64 = 0x94d0_49bb_1331_11eb;

/// A stream of pseudo-random numbers; not for secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A stream that the seed alone decides.
    pub fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }

    /// Makes the stream differ from that of any generator that was not stirred alike.
    pub fn stir(&mut self, entropy: u64) {
        self.0 = self.draw() ^ entropy.wrapping_mul(GAMMA);
    }

    /// 64 even bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(MIX_1);
        let z = (z ^ (z >> 27)).wrapping_mul(MIX_2);
        z ^ (z >> 31)
    }

    /// An even number below `bound`; 0 when `bound` is 0. Multiply-shift (Lemire 2019): its bias is
    /// below `bound`/2³², which nobody can see in a balancer.
    pub fn below(&mut self, bound: u32) -> u32 {
        let product = (self.draw() >> 32).wrapping_mul(u64::from(bound));
        u32::try_from(product >> 32).unwrap_or(0)
    }

    /// An even number from `low` to `high`, both included; `low` when they are crossed.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        let product = u128::from(self.draw()).wrapping_mul(u128::from(span));
        low.saturating_add(u64::try_from(product >> 64).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn one_seed_one_stream() {
        let (mut a, mut b) = (SplitMix64::new(42), SplitMix64::new(42));
        assert!((0..100).all(|_| a.draw() == b.draw()));
        b.stir(1);
        assert_ne!(a.draw(), b.draw());
    }

    #[test]
    fn bounds_hold_and_every_value_comes() {
        let mut rng = SplitMix64::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        let draws: Vec<u64> = (0..1000).map(|_| rng.between(1, 3)).collect();
        assert!((1..=3).all(|v| draws.contains(&v)) && draws.iter().all(|v| (1..=3).contains(v)));
        assert_eq!(rng.between(5, 5), 5);
        let _ = rng.between(0, u64::MAX);
    }
}
