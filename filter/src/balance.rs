//! Who serves a request. Pure.

pub mod list;
pub mod route;
pub mod select;
