//! Pointsman's filter: picks the backend of every request inside Envoy.
//!
//! In reading order:
//! - [`config`] is the registry's schema and its one parser, [`identity`] names things by hashes,
//!   [`keyed`] keeps them;
//! - [`cluster`] is a document compiled for picking, with its [`group`]s of endpoints, its [`retry`]
//!   headers and the [`load`] of its endpoints;
//! - [`gates`] is what is held against backends, in shared data; [`standing`] the one verdict on
//!   one endpoint;
//! - [`route`] is a request's entry, with [`select`] for the policies, [`list`] for the result and
//!   [`sticky`] for cookies;
//! - [`outcome`] is a response's entry, with [`backoff`] for the waits and [`event`] for what
//!   operators see;
//! - [`registry`] is a whole configuration, compiled, [`leaving`] what the next one takes
//!   out, [`recorded`] what the gauges say of it;
//! - [`exchange`] is the talk with the sidecar, [`posting`] its rhythm, [`worker`] the talk among
//!   the workers of one Envoy, [`keys`] where both leave things in shared data;
//! - `plugin`, on wasm32 alone, is the only place that knows the host: it gathers, lets the core
//!   decide, and applies.
//!
//! The core has no clock, no randomness and no IO: `now` and the generator are arguments.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "a test may overflow: it fails then"
    )
)]

pub mod backoff;
pub mod cluster;
pub mod config;
pub mod event;
pub mod exchange;
pub mod gates;
pub mod group;
pub mod identity;
pub mod keyed;
pub mod keys;
pub mod leaving;
pub mod list;
pub mod load;
pub mod outcome;
#[cfg(all(target_arch = "wasm32", feature = "host"))]
pub mod plugin;
pub mod posting;
pub mod recorded;
pub mod registry;
pub mod retry;
pub mod rng;
pub mod route;
#[cfg(test)]
mod seed_list;
pub mod select;
#[cfg(test)]
mod sketch;
pub mod standing;
pub mod sticky;
pub mod worker;
