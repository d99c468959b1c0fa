//! What knows nothing of the domain.

pub mod event;
pub mod hash;
pub mod headers;
pub mod keys;
pub mod random;
pub mod record;
pub mod time;
