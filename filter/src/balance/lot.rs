//! Lots, drawn by weight: the least −ln(u) / w of even draws u wins in proportion to the weights w, and so
//! does the next of the rest (Schindelhauer and Schomaker, 2005).

use std::cmp::Ordering;

use super::candidates::compare;

/// What an endpoint has drawn.
#[derive(Debug, Clone, Copy)]
pub struct Lot {
    /// 64 even bits.
    pub draw: u64,
    /// The weight by which it counts.
    pub weight: u32,
}

impl Lot {
    /// Whether it wins against another.
    #[inline]
    pub fn beats(self, other: Lot) -> bool {
        // Mostly no logarithm is needed.
        if self.draw <= other.draw && self.weight <= other.weight {
            return false;
        }
        if self.draw > other.draw && self.weight >= other.weight {
            return true;
        }
        compare(self.cost(), other.cost()) == Ordering::Less
    }

    /// The cost, and the weight by which it is divided.
    fn cost(self) -> (f64, u32) {
        // 53 bits, the middle of an interval each: neither 0 nor 1.
        let even = ((self.draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (-even.ln(), self.weight)
    }
}
