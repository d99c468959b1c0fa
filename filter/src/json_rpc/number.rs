//! A number of JSON, byte by byte.

/// How much of a number was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Its sign.
    Minus,
    /// A leading zero: no digit follows.
    Zero,
    /// Some of its digits.
    Digits,
    /// A point: a digit must follow.
    Point,
    /// Digits behind the point.
    Fraction,
    /// An e: a sign or a digit must follow.
    Exponent,
    /// The sign behind it: a digit must follow.
    Sign,
    /// Digits behind that.
    Power,
}

impl Number {
    /// How much it is with one more byte; `None`: that is not of it.
    pub fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus | Number::Digits, b'0'..=b'9') => Number::Digits,
            (Number::Zero | Number::Digits, b'.') => Number::Point,
            (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Digits | Number::Fraction, b'e' | b'E') => Number::Exponent,
            (Number::Exponent, b'+' | b'-') => Number::Sign,
            (Number::Exponent | Number::Sign | Number::Power, b'0'..=b'9') => Number::Power,
            _ => return None,
        })
    }

    /// Whether it may end here.
    pub fn is_whole(self) -> bool {
        use Number::{Digits, Fraction, Power, Zero};
        matches!(self, Zero | Digits | Fraction | Power)
    }
}
