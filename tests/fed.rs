//! An Envoy that is fed by the sidecar: verdicts, edits and deaths as operators and clients see
//! them.

mod drain;
mod edits;
mod fail_open;
mod fleet;
mod formats;
mod probes;
mod process;
mod protocols;
mod refusals;
pub(crate) mod scene;
mod verdicts;
