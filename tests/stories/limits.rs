//! Limits: what a backend, the cluster or a client is given at most, and where the rest goes.

mod breakers;
mod clients;
mod edits;
mod rates;
