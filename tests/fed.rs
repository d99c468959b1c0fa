//! An Envoy that is fed by the sidecar: verdicts, edits, deaths and restarts as operators and
//! clients see them.

mod drain;
mod edits;
mod exchange;
mod fail_open;
mod fleet;
mod formats;
mod probes;
mod process;
mod protocols;
mod refusals;
mod restarts;
mod scene;
mod verdicts;
