//! Connections: where peers reach us, one loop that serves every listener, and the client of commands.

pub mod caller;
pub mod client;
pub mod listener;
pub mod serve;
