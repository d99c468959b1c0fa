//! How peers connect to us.

pub mod caller;
