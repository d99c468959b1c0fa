//! Pointsman's filter: picks the backend of every request inside Envoy.
//!
//! The modules in layer order, the lowest first; a file imports from its own module and from those
//! above it in this list, never from one below, and the `layers` test sees to it.
//!
//! A request comes in by `plugin::gather`, [`balance::route`] decides its list, and `plugin::apply` writes
//! it. When the response begins, [`stream::attempts`] makes evidence of what each attempt met: here a
//! status such as 429 would tell more than that there was an answer. What evidence changes for all
//! workers is [`gates::transition`]'s: a back-off opens or is closed.
//!
//! The core has no clock, no randomness and no IO: `now` and the generator are arguments.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "a test may overflow: it fails then"
    )
)]

/// Keys, time, randomness and the records of shared data: nothing of the domain.
pub mod base;

/// The registry's schema and its one parser.
pub mod config;

/// What a JSON-RPC request's body asks for, and errors that its clients understand.
pub mod json_rpc;

/// A document compiled for picking.
pub mod cluster;

/// What is held against backends, shared by all workers.
pub mod gates;

/// Who serves a request.
pub mod balance;

/// One stream from its arrival to its end.
pub mod stream;

/// The workers of one Envoy, and the sidecar.
pub mod fleet;

/// The host: values in, values out, no rule.
#[cfg(all(target_arch = "wasm32", feature = "host"))]
pub mod plugin;

/// What the tests of rules have in common.
#[cfg(test)]
mod testing;
