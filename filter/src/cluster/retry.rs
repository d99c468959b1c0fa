//! The request headers that make Envoy walk the list.
//!
//! Retries are driven by these alone; Envoy's router reads and strips them.

use crate::base::time::nanos;
use crate::config::{Failure, Retry};

/// How many retries: entries of the list less one.
pub const MAX_RETRIES: &str = "x-envoy-max-retries";
/// On what.
pub const RETRY_ON: &str = "x-envoy-retry-on";
/// On which statuses, where `retry.on` has numbers.
pub const STATUS_CODES: &str = "x-envoy-retriable-status-codes";
/// On which gRPC statuses, by their names.
pub const GRPC_ON: &str = "x-envoy-retry-grpc-on";
/// Milliseconds one attempt may take.
pub const PER_TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";

/// A cluster's retry headers, spelled out once per configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryHeaders {
    /// Attempts per request, the first included.
    pub attempts: usize,
    /// `x-envoy-retry-on` for GET, HEAD and OPTIONS, which also get `reset` (RT-9).
    idempotent: String,
    /// The same for all other methods: never `reset` unless the operator listed it.
    other: String,
    /// For a list whose only endpoint stands twice: resets alone. Envoy takes a refused connection
    /// for one of them, so that one is tried twice too.
    idempotent_resets: String,
    other_resets: String,
    /// `x-envoy-retriable-status-codes`; empty: not sent.
    pub status_codes: String,
    /// `x-envoy-retry-grpc-on`; empty: not sent.
    pub grpc_on: String,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`; empty: not sent.
    pub per_try_timeout_ms: String,
    /// The same as a number, nanoseconds; 0: none.
    pub per_try_timeout_ns: u64,
    /// Answers or timeouts are retried, so that an endpoint that was passed over may have answered:
    /// the module stands upstream as well. Without, it did not answer.
    pub upstream: bool,
}

impl RetryHeaders {
    /// The headers that a cluster's `retry` asks for.
    pub fn new(retry: &Retry) -> Self {
        let all = tokens(&retry.on, |_| true);
        let resets = tokens(&retry.on, |on| {
            matches!(
                on,
                Failure::ResetBeforeRequest | Failure::RefusedStream | Failure::Reset
            )
        });
        let retries = !retry.on.is_empty();
        let with_reset = |mut tokens: Vec<&'static str>| {
            if retries && !tokens.contains(&"reset") {
                tokens.push("reset");
            }
            tokens.join(",")
        };
        let statuses: Vec<String> = retry.on.iter().filter_map(status_of).collect();
        let grpc_on: Vec<&str> = retry.on.iter().filter_map(grpc_name).collect();
        let timeout = retry.per_try_timeout;
        let per_try_timeout_ms = if timeout.is_zero() {
            String::new()
        } else {
            timeout.as_millis().to_string()
        };
        RetryHeaders {
            attempts: match retries {
                true => usize::try_from(retry.attempts).unwrap_or(1).max(1),
                false => 1,
            },
            other: all.join(","),
            idempotent: with_reset(all),
            other_resets: resets.join(","),
            idempotent_resets: with_reset(resets),
            status_codes: statuses.join(","),
            grpc_on: grpc_on.join(","),
            per_try_timeout_ms,
            per_try_timeout_ns: nanos(timeout),
            upstream: retry.needs_upstream(),
        }
    }

    /// Whether a list that is not short is walked otherwise for one method than for another: not where
    /// resets are retried for all, nor where nothing is.
    pub fn asks_method(&self) -> bool {
        self.attempts > 1 && self.idempotent != self.other
    }

    /// `x-envoy-retry-on` for a request that may be sent again after a reset, or not: empty where nothing
    /// may be retried.
    pub fn retry_on(&self, is_idempotent: bool, only_resets: bool) -> &str {
        match (is_idempotent, only_resets) {
            (true, false) => &self.idempotent,
            (true, true) => &self.idempotent_resets,
            (false, false) => &self.other,
            (false, true) => &self.other_resets,
        }
    }
}

/// Whether a request of this method may be sent again after a reset, whoever has seen it.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS")
}

fn tokens(on: &[Failure], wanted: impl Fn(&Failure) -> bool) -> Vec<&'static str> {
    let mut tokens: Vec<&'static str> = Vec::new();
    for token in on.iter().filter(|on| wanted(on)).filter_map(token) {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

fn token(on: &Failure) -> Option<&'static str> {
    Some(match on {
        Failure::ConnectFailure => "connect-failure",
        Failure::RefusedStream => "refused-stream",
        Failure::ResetBeforeRequest => "reset-before-request",
        Failure::Reset => "reset",
        Failure::GatewayError => "gateway-error",
        Failure::ServerError => "5xx",
        Failure::Code(code) if code.as_grpc().is_none() => "retriable-status-codes",
        Failure::Code(_) | Failure::Timeout => return None,
    })
}

fn status_of(on: &Failure) -> Option<String> {
    match on {
        Failure::Code(code) if code.as_grpc().is_none() => Some(code.to_string()),
        _ => None,
    }
}

/// Envoy's name of a gRPC status that it can retry.
fn grpc_name(on: &Failure) -> Option<&'static str> {
    let Failure::Code(code) = on else {
        return None;
    };
    Some(match code.as_grpc()? {
        1 => "cancelled",
        4 => "deadline-exceeded",
        8 => "resource-exhausted",
        13 => "internal",
        14 => "unavailable",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Code;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn rt_9_only_safe_methods_are_replayed_after_a_reset() {
        let headers = RetryHeaders::new(&Retry::default());
        let posts = "connect-failure,refused-stream,reset-before-request";
        assert_eq!(headers.retry_on(false, false), posts);
        for method in [&b"GET"[..], b"HEAD", b"OPTIONS"] {
            assert!(is_idempotent(method));
        }
        assert!(!is_idempotent(b"get"), "methods are case-sensitive");
        assert_eq!(headers.retry_on(true, false), format!("{posts},reset"));
        assert!(headers.asks_method());
        assert_eq!(
            headers.retry_on(false, true),
            "refused-stream,reset-before-request"
        );
        assert!(!headers.upstream);
    }

    #[test]
    fn statuses_timeouts_and_nothing() {
        let on = vec![
            Failure::Reset,
            Failure::GatewayError,
            Failure::Code(Code::http(429)),
            Failure::Reset,
            Failure::Code(Code::http(503)),
        ];
        let timeout = Duration::from_millis(250);
        let headers = RetryHeaders::new(&Retry {
            attempts: 2,
            on,
            per_try_timeout: timeout,
        });
        assert_eq!(
            headers.retry_on(false, false),
            "reset,gateway-error,retriable-status-codes"
        );
        assert!(
            !headers.asks_method(),
            "a reset is retried whatever the method"
        );
        assert_eq!(
            (
                headers.status_codes.as_str(),
                headers.per_try_timeout_ms.as_str()
            ),
            ("429,503", "250")
        );
        assert!(headers.upstream);
        let headers = RetryHeaders::new(&Retry {
            on: vec![Failure::ConnectFailure],
            ..Retry::default()
        });
        assert_eq!(
            headers.retry_on(true, true),
            "reset",
            "RT-9 holds for a stale connection"
        );
        assert_eq!(headers.retry_on(false, true), "");
        let headers = RetryHeaders::new(&Retry {
            on: vec![],
            ..Retry::default()
        });
        assert_eq!(
            headers.retry_on(true, false),
            "",
            "an operator who lists nothing means it"
        );
        assert_eq!(headers.attempts, 1, "nobody is listed who is never tried");
        assert!(!headers.asks_method());
    }
}
