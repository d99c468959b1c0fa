//! What knows nothing of the domain.

pub mod hash;
pub mod keyed;
pub mod keys;
pub mod random;
