//! Envoys that a sidecar feeds: edits, removals, deaths and refusals as operators and clients see them.

mod drain;
mod edits;
mod exchange;
mod formats;
mod moves;
mod process;
mod protocols;
mod proxies;
mod refusals;
pub(crate) mod scene;
mod upgrades;
mod views;
