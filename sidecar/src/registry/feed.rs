//! What a store must be able to do to hold the registry. All rules are the engine's.

use std::future::Future;
use std::time::Duration;

use super::model::{Reachability, StoreKind};
use super::record::Record;

/// The store does not do what is needed; the text has no secrets.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FeedError(pub String);

/// What was heard.
pub enum News {
    /// These places changed: what stands there now.
    Some(Vec<Record>),
    /// Anything may have changed: everything is to be read.
    Anything,
}

/// A store that the registry is read from.
pub trait Feed: Send {
    /// Which store it is.
    const KIND: StoreKind;
    /// Whether there is a store that can be out of reach.
    const UP: Reachability;
    /// The first and the longest pause between two attempts to open it.
    const BACKOFF: (Duration, Duration);

    /// Connects anew. From the next reading on every change is heard.
    fn open(&mut self) -> impl Future<Output = Result<(), FeedError>> + Send;

    /// Reads everything.
    fn list(&mut self) -> impl Future<Output = Result<Vec<Record>, FeedError>> + Send;

    /// Waits for what changes after the last reading. Dropped while it waits it forgets nothing.
    fn next(&mut self) -> impl Future<Output = Result<News, FeedError>> + Send;

    /// The store's clock, ms since 1970.
    fn now(&self) -> u64;

    /// Where the store is, for people.
    fn place(&self) -> String;

    /// What of the store cannot be read while the rest can.
    fn trouble(&self) -> Option<String> {
        None
    }
}
