//! The request headers that make Envoy walk the list.
//!
//! Retries are driven by these alone; Envoy's router reads and strips them.

use crate::config::{Retry, RetryOn};

/// How many retries: entries of the list less one.
pub const MAX_RETRIES: &str = "x-envoy-max-retries";
/// On what.
pub const RETRY_ON: &str = "x-envoy-retry-on";
/// On which statuses, where `retry.on` has numbers.
pub const STATUS_CODES: &str = "x-envoy-retriable-status-codes";
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
    /// `x-envoy-upstream-rq-per-try-timeout-ms`; empty: not sent.
    pub per_try_timeout_ms: String,
    /// Only transport failures are retried, so that an endpoint that was passed over did not answer.
    pub transport_only: bool,
}

impl RetryHeaders {
    /// The headers that a cluster's `retry` asks for.
    pub fn new(retry: &Retry) -> Self {
        let all = tokens(&retry.on, |_| true);
        let resets = tokens(&retry.on, |on| {
            matches!(
                on,
                RetryOn::ResetBeforeRequest | RetryOn::RefusedStream | RetryOn::Reset
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
        let timeout = retry.per_try_timeout;
        let per_try_timeout_ms = if timeout.is_zero() {
            String::new()
        } else {
            timeout.as_millis().to_string()
        };
        let answers = retry.on.iter().any(|on| {
            matches!(
                on,
                RetryOn::GatewayError | RetryOn::ServerError | RetryOn::Status(_)
            )
        });
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
            transport_only: !answers && per_try_timeout_ms.is_empty(),
            per_try_timeout_ms,
        }
    }

    /// `x-envoy-retry-on` for a request: empty where nothing may be retried.
    pub fn retry_on(&self, method: &[u8], only_resets: bool) -> &str {
        match (is_idempotent(method), only_resets) {
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

fn tokens(on: &[RetryOn], wanted: impl Fn(&RetryOn) -> bool) -> Vec<&'static str> {
    let mut tokens: Vec<&'static str> = Vec::new();
    for token in on.iter().filter(|on| wanted(on)).map(token) {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

fn token(on: &RetryOn) -> &'static str {
    match on {
        RetryOn::ConnectFailure => "connect-failure",
        RetryOn::RefusedStream => "refused-stream",
        RetryOn::ResetBeforeRequest => "reset-before-request",
        RetryOn::Reset => "reset",
        RetryOn::GatewayError => "gateway-error",
        RetryOn::ServerError => "5xx",
        RetryOn::Status(_) => "retriable-status-codes",
    }
}

fn status_of(on: &RetryOn) -> Option<String> {
    match on {
        RetryOn::Status(status) => Some(status.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn rt_9_only_safe_methods_are_replayed_after_a_reset() {
        let headers = RetryHeaders::new(&Retry::default());
        let posts = "connect-failure,refused-stream,reset-before-request";
        assert_eq!(headers.retry_on(b"POST", false), posts);
        for method in [&b"GET"[..], b"HEAD", b"OPTIONS"] {
            assert_eq!(headers.retry_on(method, false), format!("{posts},reset"));
        }
        assert_eq!(
            headers.retry_on(b"get", false),
            posts,
            "methods are case-sensitive"
        );
        assert_eq!(
            headers.retry_on(b"POST", true),
            "refused-stream,reset-before-request"
        );
        assert!(headers.transport_only);
    }

    #[test]
    fn statuses_timeouts_and_nothing() {
        let on = vec![
            RetryOn::Reset,
            RetryOn::GatewayError,
            RetryOn::Status(429),
            RetryOn::Reset,
            RetryOn::Status(503),
        ];
        let timeout = Duration::from_millis(250);
        let headers = RetryHeaders::new(&Retry {
            attempts: 2,
            on,
            per_try_timeout: timeout,
        });
        assert_eq!(
            headers.retry_on(b"POST", false),
            "reset,gateway-error,retriable-status-codes"
        );
        assert_eq!(
            (
                headers.status_codes.as_str(),
                headers.per_try_timeout_ms.as_str()
            ),
            ("429,503", "250")
        );
        assert!(!headers.transport_only);
        let headers = RetryHeaders::new(&Retry {
            on: vec![RetryOn::ConnectFailure],
            ..Retry::default()
        });
        assert_eq!(
            headers.retry_on(b"GET", true),
            "reset",
            "RT-9 holds for a stale connection"
        );
        assert_eq!(headers.retry_on(b"POST", true), "");
        let headers = RetryHeaders::new(&Retry {
            on: vec![],
            ..Retry::default()
        });
        assert_eq!(
            headers.retry_on(b"GET", false),
            "",
            "an operator who lists nothing means it"
        );
        assert_eq!(headers.attempts, 1, "nobody is listed who is never tried");
    }
}
