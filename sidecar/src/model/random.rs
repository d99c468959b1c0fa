//! Numbers that nobody can foresee, and that differ from one start to the next.

use std::hash::{BuildHasher, Hasher, RandomState};

/// One of them: the standard library seeds its hashers so.
pub fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}
