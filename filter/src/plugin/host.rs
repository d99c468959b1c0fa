//! Every call to the host, with errors that are values.
//!
//! The SDK's trait methods unwrap, and its string variants panic on a header value that is not
//! UTF-8; a panic here ends all streams of a worker. So: byte-wise host calls alone, each in the
//! phases that its comment names, because the host answers a call in the wrong phase with a status
//! on which the SDK panics as well.

#[allow(unsafe_code)] // The host's own functions take addresses.
mod import;

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType, Status};

use crate::base::time::{WallTime, nanos};

/// A key that does not exist is created with this, which no stored value ever has: the second of
/// two creators gets a mismatch.
const CREATE: u32 = u32::MAX;

/// The wall clock; 1970 where there is none. Any phase.
pub fn now() -> WallTime {
    let since = hostcalls::get_current_time()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    WallTime::from_ns(since.map_or(0, nanos))
}

/// A property's bytes; absent, empty and unreadable are the same. The parts of its path have a NUL
/// between them, as the host wants them: the SDK would put them together anew for every request.
/// Any phase.
pub fn property(path: &'static str) -> Option<Vec<u8>> {
    import::property(path)
}

/// A property that is a number. Any phase.
pub fn number(path: &'static str) -> Option<u64> {
    let bytes = property(path)?;
    bytes
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

/// A request header's first value. Request headers phase.
pub fn request_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name)
        .ok()
        .flatten()
}

/// All request headers, as the host writes them. Request headers phase.
pub fn request_headers() -> Option<Vec<u8>> {
    import::headers(MapType::HttpRequestHeaders as u32)
}

/// Sets a request header, or removes it with all its lines. Request headers phase.
pub fn set_request_header(name: &str, value: Option<&[u8]>) {
    // The one error is a wrong phase, and the phase is right.
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, value);
}

/// A response header's first value. Response headers phase.
pub fn response_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, name)
        .ok()
        .flatten()
}

/// Adds a response header beside those of its name. Response headers phase.
pub fn add_response_header(name: &str, value: &str) {
    let _ = hostcalls::add_map_value_bytes(MapType::HttpResponseHeaders, name, value.as_bytes());
}

/// Answers the request here. Request headers phase.
pub fn answer(status: u32, headers: Vec<(&str, &str)>, body: &[u8]) {
    let _ = hostcalls::send_http_response(status, headers, Some(body));
}

/// A value in shared data and its version; an absent key is an empty value of version 0. Any phase.
pub fn shared(key: &str) -> (Vec<u8>, u32) {
    let (value, cas) = hostcalls::get_shared_data(key).unwrap_or_default();
    (value.unwrap_or_default(), cas.unwrap_or(0))
}

/// Replaces a value in shared data if it still has the version it was read with; `false` when
/// somebody was faster. Any phase.
pub fn replace_shared(key: &str, value: &[u8], version: u32) -> bool {
    let cas = if version == 0 { CREATE } else { version };
    hostcalls::set_shared_data(key, Some(value), Some(cas)).is_ok()
}

/// Sets a value in shared data whatever it was. Any phase.
pub fn set_shared(key: &str, value: &[u8]) {
    let _ = hostcalls::set_shared_data(key, Some(value), None);
}

/// A new metric's id. The host makes a new one at every call, so ids are kept. Any phase.
pub fn define_metric(kind: MetricType, name: &str) -> Option<u32> {
    hostcalls::define_metric(kind, name).ok()
}

/// Adds to a counter. Any phase.
pub fn add_metric(id: u32, count: i64) {
    let _ = hostcalls::increment_metric(id, count);
}

/// Sets a gauge. Any phase.
pub fn record_metric(id: u32, value: u64) {
    let _ = hostcalls::record_metric(id, value);
}

/// Asks for ticks. Root contexts.
pub fn set_tick_period(period: Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// The plugin's configuration. `on_configure`.
pub fn configuration(size: usize) -> Vec<u8> {
    let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size);
    bytes.ok().flatten().unwrap_or_default()
}

/// Posts to an Envoy cluster; the token of the call. Root contexts.
pub fn post(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: &str,
    timeout: Duration,
) -> Result<u32, Status> {
    hostcalls::dispatch_http_call(cluster, headers, Some(body.as_bytes()), Vec::new(), timeout)
}

/// A header of a call's answer. `on_http_call_response` that has headers.
pub fn call_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name)
        .ok()
        .flatten()
}

/// The body of a call's answer. `on_http_call_response`.
pub fn call_body(size: usize) -> Vec<u8> {
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size);
    body.ok().flatten().unwrap_or_default()
}
