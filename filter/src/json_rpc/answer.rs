//! Errors as JSON-RPC's clients read them. None of them has an address in it.

use serde_json::{Value, json};

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON.
    NotJson,
    /// Its containers stand too deep in each other.
    TooDeep,
    /// It is neither an object nor a list.
    NoRequest,
    /// Its list has nothing in it.
    EmptyBatch,
    /// Its list is longer than the cluster allows.
    BatchTooLong,
    /// Its list has more than any backend ever has tokens for (RL-4).
    OverBurst,
    /// It is larger than the cluster allows.
    TooLarge,
}

impl Fault {
    /// Its name, in the counter of refused bodies.
    pub fn name(self) -> &'static str {
        match self {
            Fault::NotJson => "not_json",
            Fault::TooDeep => "too_deep",
            Fault::NoRequest => "no_request",
            Fault::EmptyBatch => "empty_batch",
            Fault::BatchTooLong => "batch_too_long",
            Fault::OverBurst => "batch_over_burst",
            Fault::TooLarge => "body_too_large",
        }
    }

    /// The answer's status.
    pub fn status(self) -> u32 {
        match self {
            Fault::NotJson | Fault::TooDeep | Fault::NoRequest | Fault::EmptyBatch => 400,
            Fault::BatchTooLong | Fault::OverBurst | Fault::TooLarge => 413,
        }
    }

    /// What a client is told; nobody knows its id yet.
    pub fn body(self) -> String {
        let (code, message) = match self {
            Fault::NotJson => (PARSE_ERROR, "the body is not JSON"),
            Fault::TooDeep => (PARSE_ERROR, "the body is nested too deep"),
            Fault::NoRequest => (INVALID_REQUEST, "the body is neither a request nor a batch"),
            Fault::EmptyBatch => (INVALID_REQUEST, "the batch is empty"),
            Fault::BatchTooLong => (INVALID_REQUEST, "the batch has too many requests"),
            Fault::OverBurst => {
                let message = "the batch has more requests than any backend's rate limit lets pass";
                (INVALID_REQUEST, message)
            }
            Fault::TooLarge => (INVALID_REQUEST, "the body is too large"),
        };
        spell(code, message, NO_ID)
    }
}

/// The id of a request of which none is known, and of a batch.
pub const NO_ID: &str = "null";
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;
const LIMITED: i32 = -32000;

/// An answer that is no result, as an error of JSON-RPC (RL-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcError {
    /// Limits are the reason.
    Limited,
    /// Nobody could serve it.
    NoBackend,
    /// It was answered with this status, by a backend or by Envoy.
    Failed(u16),
}

impl RpcError {
    /// Its name, in the counter of mapped answers.
    pub fn name(self) -> &'static str {
        match self {
            RpcError::Limited => "limited",
            RpcError::NoBackend => "no_backend",
            RpcError::Failed(_) => "failed",
        }
    }
}

/// The error that an answer's status is; `None` for one that is none.
pub fn error_of(status: &[u8]) -> Option<RpcError> {
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    match status {
        429 => Some(RpcError::Limited),
        500..=599 => Some(RpcError::Failed(status)),
        _ => None,
    }
}

/// The body of an error for the request with this id, which is JSON.
pub fn error_body(error: RpcError, id: &str) -> String {
    match error {
        RpcError::Limited => spell(LIMITED, "too many requests", id),
        RpcError::NoBackend => spell(INTERNAL_ERROR, "no backend available", id),
        RpcError::Failed(status) => {
            let message = format!("the request failed with status {status}");
            spell(INTERNAL_ERROR, &message, id)
        }
    }
}

fn spell(code: i32, message: &str, id: &str) -> String {
    let error: Value = json!({"code": code, "message": message});
    // The id as it came: a number may have more digits than any type here.
    format!(r#"{{"jsonrpc":"2.0","error":{error},"id":{id}}}"#)
}
