//! Every call to the host, with errors that are values.
//!
//! The SDK's functions panic on a status that they do not expect and on text that is not UTF-8; a
//! panic here ends all streams of a worker. So all calls but one go past it ([`import`]), byte-wise,
//! each in the phases that its comment names: out of phase the host answers nothing, and a local
//! answer at a stream's end kills Envoy.

#[allow(unsafe_code)] // The host's own functions take addresses.
mod import;

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status};

use crate::base::time::WallTime;

/// A key that does not exist is created with this, which no stored value ever has: the second of
/// two creators gets a mismatch.
const CREATE: u32 = u32::MAX;

/// Sends log lines and the last words of a panic to the host's log.
pub fn start_log() {
    if log::set_logger(&HostLog).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
        let critical = LogLevel::Critical as u32;
        std::panic::set_hook(Box::new(move |info| {
            import::log(critical, &info.to_string())
        }));
    }
}

struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        let level = match record.level() {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        import::log(level as u32, &record.args().to_string());
    }

    fn flush(&self) {}
}

/// The wall clock; 1970 where there is none. Any phase.
pub fn now() -> WallTime {
    WallTime::from_ns(import::now_ns().unwrap_or(0))
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

/// Sets a property that is a number: the stream's filters have it from then on, those upstream too. Any
/// phase.
pub fn set_number(path: &'static str, value: u64) {
    import::set_property(path, &value.to_le_bytes());
}

/// A request header's first value. Request headers phase.
pub fn request_header(name: &str) -> Option<Vec<u8>> {
    import::header(MapType::HttpRequestHeaders as u32, name)
}

/// All request headers, as the host writes them. Request headers phase.
pub fn request_headers() -> Option<Vec<u8>> {
    import::headers(MapType::HttpRequestHeaders as u32)
}

/// Sets a request header, or removes it with all its lines. Request headers phase.
pub fn set_request_header(name: &str, value: Option<&[u8]>) {
    import::set_header(MapType::HttpRequestHeaders as u32, name, value);
}

/// A response header's first value. Response headers phase.
pub fn response_header(name: &str) -> Option<Vec<u8>> {
    import::header(MapType::HttpResponseHeaders as u32, name)
}

/// Adds a response header beside those of its name. Response headers phase.
pub fn add_response_header(name: &str, value: &str) {
    import::add_header(MapType::HttpResponseHeaders as u32, name, value.as_bytes());
}

/// Answers the request here; to a gRPC client with the status that Envoy translates to, or this one.
/// Request headers phase, and response headers phase, where it takes the place of the answer that came.
pub fn answer(status: u32, grpc_status: Option<i32>, headers: &[(&str, &str)], body: &[u8]) {
    import::answer(
        status,
        grpc_status.unwrap_or(-1),
        &header_map(headers),
        body,
    );
}

/// Headers as the host reads them: how many, the sizes of each name and value, then each of these
/// with a NUL behind it.
fn header_map(headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    let texts = || headers.iter().flat_map(|(name, value)| [name, value]);
    let mut map = number(headers.len()).to_vec();
    map.extend(texts().flat_map(|text| number(text.len())));
    for text in texts() {
        map.extend_from_slice(text.as_bytes());
        map.push(0);
    }
    map
}

/// A value in shared data and its version; an absent key is an empty value of version 0. Any phase.
pub fn shared(key: &str) -> (Vec<u8>, u32) {
    import::shared(key)
}

/// Replaces a value in shared data if it still has the version it was read with; `false` when
/// somebody was faster. Any phase.
pub fn replace_shared(key: &str, value: &[u8], version: u32) -> bool {
    let version = if version == 0 { CREATE } else { version };
    import::set_shared(key, value, version)
}

/// Sets a value in shared data whatever it was. Any phase.
pub fn set_shared(key: &str, value: &[u8]) {
    import::set_shared(key, value, 0);
}

/// A new metric's id. The host makes a new one at every call, so ids are kept. Any phase.
pub fn define_metric(kind: MetricType, name: &str) -> Option<u32> {
    import::define_metric(kind as u32, name)
}

/// Adds to a counter. Any phase.
pub fn add_metric(id: u32, count: i64) {
    import::add_metric(id, count);
}

/// Sets a gauge. Any phase.
pub fn record_metric(id: u32, value: u64) {
    import::record_metric(id, value);
}

/// Asks for ticks. Root contexts.
pub fn set_tick_period(period: Duration) {
    import::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
}

/// The plugin's configuration. `on_configure`.
pub fn configuration(size: usize) -> Vec<u8> {
    import::buffer(BufferType::PluginConfiguration as u32, (0, size)).unwrap_or_default()
}

/// At most so many bytes, from `start` on, of what has come of a request's body since the callback before.
/// Request body phase.
pub fn request_body(start: usize, max_size: usize) -> Vec<u8> {
    import::buffer(BufferType::HttpRequestBody as u32, (start, max_size)).unwrap_or_default()
}

/// Posts to an Envoy cluster; the token of the call. Through the SDK, which hands the answer to the
/// context that posted; it knows both failures that the host has here. Root contexts.
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
    import::header(MapType::HttpCallResponseHeaders as u32, name)
}

/// The body of a call's answer. `on_http_call_response` that has headers.
pub fn call_body(size: usize) -> Vec<u8> {
    import::buffer(BufferType::HttpCallResponseBody as u32, (0, size)).unwrap_or_default()
}
