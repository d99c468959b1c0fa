//! Redis: which server holds the registry, the connection to it, its keys and its change notices.

pub mod hints;
pub mod keeper;
pub mod layout;
pub mod lease;
pub mod link;
pub mod node;
