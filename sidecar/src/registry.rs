//! Stage 1: what is wanted. A feed reads its whole store, the one parser judges each record, and
//! the last good version of every record keeps serving.

pub mod bodies;
pub mod changes;
pub mod cookies;
pub mod document;
pub mod edit;
pub mod editor;
pub mod engine;
pub mod feed;
pub mod feeds;
pub mod follow;
mod guard;
pub mod history;
pub mod model;
pub mod record;
pub mod records;
pub mod services;
pub mod source;
pub mod warnings;

pub use model::{Held, Output, Published, Reachability, Registry, SourceStatus, StoreKind};
pub use source::{Source, Statuses};
