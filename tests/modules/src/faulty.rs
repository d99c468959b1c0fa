//! `x-fault: trap` traps in the request phase, `x-fault: trap-in-log` when the stream ends, and
//! `x-fault: busy-<milliseconds>` keeps the worker busy for as long. A configuration that holds the
//! word `x-fault-half` reaches the filter cut in half; one that holds `x-fault-trap-idle` ends
//! every VM that has not served a request yet, the main thread's above all, at its next tick; one that
//! holds `x-fault-upstream` lets the role upstream refuse its own, which is empty.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, MapType};

const HALF: &[u8] = b"x-fault-half";
const TRAP_IDLE: &[u8] = b"x-fault-trap-idle";
const UPSTREAM: &[u8] = b"x-fault-upstream";
/// Where the VMs of one Envoy share that a configuration held that word.
const REFUSES: &str = "x-fault-upstream";

/// Whether this VM has served a request.
static SERVED: AtomicBool = AtomicBool::new(false);

/// The host calls this after the filter's own `_initialize`, so that this root comes around its.
#[unsafe(no_mangle)]
extern "C" fn main(_: i32, _: i32) -> i32 {
    proxy_wasm::set_root_context(|id| {
        let filter = pointsman_filter::plugin::root(id);
        let trap_idle = false;
        Box::new(Root { filter, trap_idle })
    });
    0
}

struct Root {
    filter: Box<dyn RootContext>,
    trap_idle: bool,
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, trailers: usize) {
        self.filter
            .on_http_call_response(token, headers, body, trailers);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size);
        let bytes = bytes.ok().flatten().unwrap_or_default();
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|bytes| bytes == word);
        self.trap_idle = holds(TRAP_IDLE);
        if holds(UPSTREAM) {
            let _ = hostcalls::set_shared_data(REFUSES, Some(UPSTREAM), None);
        }
        let is_upstream = bytes.is_empty();
        if is_upstream && matches!(hostcalls::get_shared_data(REFUSES), Ok((Some(_), _))) {
            return false;
        }
        self.filter
            .on_configure(if holds(HALF) { size / 2 } else { size })
    }

    fn on_tick(&mut self) {
        if self.trap_idle && !SERVED.load(Ordering::Relaxed) {
            core::arch::wasm32::unreachable();
        }
        self.filter.on_tick();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        SERVED.store(true, Ordering::Relaxed);
        let filter = self.filter.create_http_context(id)?;
        Some(Box::new(Stream {
            filter,
            trap_in_log: false,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    filter: Box<dyn HttpContext>,
    trap_in_log: bool,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, headers: usize, end_of_stream: bool) -> Action {
        let fault = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, "x-fault");
        match fault.ok().flatten().as_deref() {
            Some(b"trap") => core::arch::wasm32::unreachable(),
            Some(b"trap-in-log") => self.trap_in_log = true,
            Some(fault) => {
                if let Some(millis) = fault.strip_prefix(b"busy-") {
                    stay_busy(millis);
                }
            }
            None => {}
        }
        self.filter.on_http_request_headers(headers, end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.filter.on_http_request_body(size, end_of_stream)
    }

    fn on_http_response_headers(&mut self, headers: usize, end_of_stream: bool) -> Action {
        self.filter.on_http_response_headers(headers, end_of_stream)
    }

    fn on_log(&mut self) {
        if self.trap_in_log {
            core::arch::wasm32::unreachable();
        }
    }
}

/// At most 10 s: the VM has no fuel, and nobody could end a longer loop.
fn stay_busy(millis: &[u8]) {
    let millis = std::str::from_utf8(millis)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let now = || hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH);
    let end = now() + Duration::from_millis(u64::min(millis, 10_000));
    while now() < end {}
}
