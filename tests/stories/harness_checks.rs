//! Does the harness do what it says? Backends as a client without any Envoy between sees them,
//! a real Envoy before any filter has a say, and the ends of processes.

mod backends;
mod clusters;
mod ends;
mod envoys;
mod processes;
mod sidecars;
