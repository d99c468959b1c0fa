//! JSON-RPC: what a request's body asks for, and errors that its clients understand. Pure.

mod answer;
mod asked;
mod body;
mod number;
mod scanner;

pub use answer::{Fault, NO_ID, RpcError, error_body, error_of};
pub use asked::Asked;
pub use body::{Body, announced};
pub use scanner::{DEPTH_MAX, Scanner, TEXT_MAX};

#[cfg(test)]
mod tests;
