//! Redis: which server holds the registry, the connection to it, its keys and its change notices.

pub mod hints;
pub mod layout;
pub mod link;
pub mod node;
