//! The request headers that carry a list and make Envoy walk it.

use crate::balance::route::Plan;
use crate::cluster::Cluster;
use crate::cluster::retry::{self, RetryHeaders};

/// The headers of one request.
pub struct ListHeaders<'a> {
    retry: &'a RetryHeaders,
    list: String,
    retries: usize,
    retry_on: &'a str,
    /// The only endpoint stands twice, for resets.
    alone: bool,
}

impl<'a> ListHeaders<'a> {
    /// Spells a plan out for a request's method, which is asked for where something depends on it.
    pub fn new(cluster: &'a Cluster, plan: &Plan, method: impl FnOnce() -> Vec<u8>) -> Self {
        let is_short = !plan.alone && plan.list.len() < cluster.retry.attempts;
        let asks_method = is_short || cluster.retry.asks_method();
        let is_idempotent = asks_method && retry::is_idempotent(&method());
        let retry_on = cluster.retry.retry_on(is_idempotent, plan.alone);
        let may_repeat = plan.alone || (is_short && is_idempotent);
        // All of a short list may have had stale connections; to the first, a new one is made then.
        let again = plan
            .list
            .first()
            .filter(|_| may_repeat && !retry_on.is_empty());
        let mut list = String::with_capacity(96);
        let entries = plan.list.entries().iter().copied().chain(again);
        let mut retries: usize = 0;
        for endpoint in entries.filter_map(|index| cluster.endpoint(index)) {
            if !list.is_empty() {
                list.push(',');
                retries = retries.saturating_add(1);
            }
            list.push_str(&endpoint.address);
        }
        ListHeaders {
            retry: &cluster.retry,
            list,
            retries,
            retry_on,
            alone: plan.alone,
        }
    }

    /// Gives each header's name and value to `set`; the list goes into `list_header`.
    pub fn write(&self, list_header: &str, mut set: impl FnMut(&str, &[u8])) {
        set(list_header, self.list.as_bytes());
        set(retry::MAX_RETRIES, digit(self.retries));
        if self.retries > 0 && !self.retry_on.is_empty() {
            set(retry::RETRY_ON, self.retry_on.as_bytes());
            if !self.retry.status_codes.is_empty() {
                set(retry::STATUS_CODES, self.retry.status_codes.as_bytes());
            }
        }
        if self.retries > 0 && !self.alone && !self.retry.grpc_on.is_empty() {
            set(retry::GRPC_ON, self.retry.grpc_on.as_bytes());
        }
        if !self.retry.per_try_timeout_ms.is_empty() {
            let timeout = self.retry.per_try_timeout_ms.as_bytes();
            set(retry::PER_TRY_TIMEOUT, timeout);
        }
    }
}

fn digit(number: usize) -> &'static [u8] {
    b"0123456789".get(number..=number).unwrap_or(b"0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::route::Decision;
    use crate::config::{Code, Failure};
    use crate::testing::drawing::Drawing;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The headers of a request, as `name: value` without the common beginning.
    fn headers(drawing: &mut Drawing, method: &str) -> Vec<String> {
        let Decision::Forward(plan) = drawing.route() else {
            return Vec::new();
        };
        let mut headers = Vec::new();
        ListHeaders::new(&drawing.cluster, &plan, || method.into()).write("list", |name, value| {
            let name = name.trim_start_matches("x-envoy-");
            headers.push(format!("{name}: {}", String::from_utf8_lossy(value)));
        });
        headers
    }

    #[test]
    fn rt_7_a_list_has_one_retry_less_than_entries() {
        let mut drawing = Drawing::new("a:unhealthy b").attempts(1);
        let b = "10.0.0.98:80";
        let list = format!("list: {b}");
        assert_eq!(headers(&mut drawing, "GET"), [&list, "max-retries: 0"]);
        drawing.redraw("b c@b d:backup");
        let [list, retries, on] = &headers(&mut drawing.attempts(3), "POST")[..] else {
            panic!("three headers");
        };
        assert_eq!(*list, format!("list: {b},10.0.0.100:80"));
        assert_eq!(retries, "max-retries: 1");
        assert_eq!(
            *on,
            "retry-on: connect-failure,refused-stream,reset-before-request"
        );
    }

    #[test]
    fn rt_7_and_9_the_only_eligible_stands_twice_for_resets_alone() {
        let mut drawing = Drawing::new("a b:unhealthy");
        let twice = "list: 10.0.0.97:80,10.0.0.97:80";
        let resets = "retry-on: refused-stream,reset-before-request";
        assert_eq!(
            headers(&mut drawing, "POST"),
            [twice, "max-retries: 1", resets]
        );
        let resets = format!("{resets},reset");
        assert_eq!(
            headers(&mut drawing, "GET"),
            [twice, "max-retries: 1", &resets]
        );
        let mut drawing = drawing.edit(|config| config.retry.on = vec![Failure::ConnectFailure]);
        let once = ["list: 10.0.0.97:80", "max-retries: 0"];
        assert_eq!(headers(&mut drawing, "POST"), once, "no reset is retried");
    }

    #[test]
    fn rt_9_the_pick_stands_once_more_at_the_end_of_a_short_list_that_may_be_replayed() {
        let (a, b) = ("10.0.0.97:80", "10.0.0.98:80");
        let list = |attempts: u32, method: &str| {
            let drawing = Drawing::new("a b:backup").attempts(attempts);
            let [list, retries, ..] = &headers(&mut { drawing }, method)[..] else {
                panic!("two headers at least");
            };
            format!("{list} {retries}")
        };
        let once_more = format!("list: {a},{b},{a} max-retries: 2");
        let once = format!("list: {a},{b} max-retries: 1");
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(list(3, method), once_more);
            assert_eq!(list(5, method), once_more, "no more than once");
            assert_eq!(list(2, method), once, "no attempt is left");
        }
        assert_eq!(list(3, "POST"), once);
    }

    #[test]
    fn statuses_are_sent_with_retries_and_the_timeout_always() {
        let drawing = Drawing::new("a b").attempts(2);
        let mut drawing = drawing.edit(|config| {
            config.retry.on = vec![Failure::Code(Code::http(429)), Failure::GatewayError];
            config.retry.per_try_timeout = Duration::from_millis(250);
        });
        let sent = headers(&mut drawing, "POST");
        let statuses = "retriable-status-codes: 429".to_owned();
        let timeout = "upstream-rq-per-try-timeout-ms: 250".to_owned();
        assert!(
            sent.contains(&statuses) && sent.contains(&timeout),
            "{sent:?}"
        );
        let sent = headers(&mut drawing.attempts(1), "POST");
        assert!(
            !sent.contains(&statuses) && sent.contains(&timeout),
            "{sent:?}"
        );
    }
}
