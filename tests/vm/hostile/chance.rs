//! Draws of a sequence.

use pointsman_filter::base::random::SplitMix64;

/// A stream of draws that a seed alone decides.
pub struct Chance(SplitMix64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(SplitMix64::new(seed))
    }

    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(u32::try_from(bound).unwrap_or(u32::MAX)) as usize
    }

    /// True so many times in a thousand.
    pub fn in_1000(&mut self, times: usize) -> bool {
        self.below(1000) < times
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A number at which arithmetic breaks, or any.
    pub fn extreme(&mut self) -> u64 {
        let any = self.draw();
        *self.pick(&[
            0,
            1,
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
            (1 << 63) - 1,
            1 << 32,
            any,
        ])
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let size = self.below(most + 1);
        (0..size).map(|_| self.draw() as u8).collect()
    }

    /// The bytes with something wrong: cut, longer, or with some of them changed.
    pub fn spoil(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len() + 1)),
            1 => bytes.extend(self.bytes(40)),
            _ => {
                for _ in 0..=self.below(4) {
                    let place = self.below(bytes.len().max(1));
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = *self.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9']);
                    }
                }
            }
        }
        bytes
    }
}
