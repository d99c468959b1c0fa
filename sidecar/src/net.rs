//! How peers connect to us: where we listen, and one loop that serves every listener.

pub mod caller;
pub mod listener;
pub mod serve;
