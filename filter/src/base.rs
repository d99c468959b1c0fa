//! What knows nothing of the domain.

pub mod hash;
pub mod keys;
pub mod random;
pub mod time;
