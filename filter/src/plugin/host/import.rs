//! The functions of the host, called without the SDK: it panics on every status that it does not
//! expect, and the host has more than those. An operator may restrict what a module can call; each
//! such call is then answered with an internal failure.

/// The host's word for: done.
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;

    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;

    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;

    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;

    fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, value_size: *mut usize) -> u32;

    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;

    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;

    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;

    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        version: *mut u32,
    ) -> u32;

    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        version: u32,
    ) -> u32;

    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;

    fn proxy_increment_metric(id: u32, offset: i64) -> u32;

    fn proxy_record_metric(id: u32, value: u64) -> u32;

    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

/// Writes a line into the host's log.
pub fn log(level: u32, message: &str) {
    // SAFETY: the message is readable for the time of the call, as are all slices below.
    unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Wall clock in nanoseconds.
pub fn now_ns() -> Option<u64> {
    let mut time = 0;
    // SAFETY: the result is writable for the time of the call, as are all results below.
    let status = unsafe { proxy_get_current_time_nanoseconds(&mut time) };
    (status == OK).then_some(time)
}

/// Asks for ticks.
pub fn set_tick_period(millis: u32) {
    // SAFETY: it takes no address.
    unsafe { proxy_set_tick_period_milliseconds(millis) };
}

/// So many bytes of a buffer from a place on, or those that there are.
pub fn buffer(buffer: u32, (start, max_size): (usize, usize)) -> Option<Vec<u8>> {
    // SAFETY: see `now_ns`.
    taken(|value, size| unsafe { proxy_get_buffer_bytes(buffer, start, max_size, value, size) })
}

/// A property's bytes; `None` for every status but Ok, and for none.
pub fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: see `log` and `now_ns`.
    taken(|value, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) })
}

/// Sets a property of the stream.
pub fn set_property(path: &str, value: &[u8]) {
    let (at, size) = (value.as_ptr(), value.len());
    // SAFETY: see `log`.
    unsafe { proxy_set_property(path.as_ptr(), path.len(), at, size) };
}

/// A whole map of headers, as the host writes it.
pub fn headers(map: u32) -> Option<Vec<u8>> {
    // SAFETY: see `now_ns`.
    taken(|value, size| unsafe { proxy_get_header_map_pairs(map, value, size) })
}

/// A header's first value; `None` for an empty one too.
pub fn header(map: u32, name: &str) -> Option<Vec<u8>> {
    // SAFETY: see `log` and `now_ns`.
    taken(|value, size| unsafe {
        proxy_get_header_map_value(map, name.as_ptr(), name.len(), value, size)
    })
}

/// Sets a header, or removes it with all its lines.
pub fn set_header(map: u32, name: &str, value: Option<&[u8]>) {
    let (at, size) = (name.as_ptr(), name.len());
    // SAFETY: see `log`.
    match value {
        Some(value) => unsafe {
            proxy_replace_header_map_value(map, at, size, value.as_ptr(), value.len())
        },
        None => unsafe { proxy_remove_header_map_value(map, at, size) },
    };
}

/// Adds a header beside those of its name.
pub fn add_header(map: u32, name: &str, value: &[u8]) {
    let (at, size) = (name.as_ptr(), name.len());
    // SAFETY: see `log`.
    unsafe { proxy_add_header_map_value(map, at, size, value.as_ptr(), value.len()) };
}

/// A value in shared data and its version; an absent key is an empty value of version 0.
pub fn shared(key: &str) -> (Vec<u8>, u32) {
    let mut version = 0;
    // SAFETY: see `log` and `now_ns`.
    let value = taken(|value, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &mut version)
    });
    (value.unwrap_or_default(), version)
}

/// Sets a value in shared data if it has this version, or whatever it was for 0; whether it did.
pub fn set_shared(key: &str, value: &[u8], version: u32) -> bool {
    let (at, size) = (value.as_ptr(), value.len());
    // SAFETY: see `log`.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), at, size, version) == OK }
}

/// A new metric's id.
pub fn define_metric(kind: u32, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: see `log` and `now_ns`.
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    (status == OK).then_some(id)
}

/// Adds to a counter.
pub fn add_metric(id: u32, count: i64) {
    // SAFETY: it takes no address.
    unsafe { proxy_increment_metric(id, count) };
}

/// Sets a gauge.
pub fn record_metric(id: u32, value: u64) {
    // SAFETY: it takes no address.
    unsafe { proxy_record_metric(id, value) };
}

/// Answers a request; the headers are a map as the host reads it. The gRPC status is -1 for none.
pub fn answer(status: u32, grpc_status: i32, headers: &[u8], body: &[u8]) {
    let (details, none) = (std::ptr::null(), 0);
    let (at, size) = (body.as_ptr(), body.len());
    let (headers, headers_size) = (headers.as_ptr(), headers.len());
    // SAFETY: see `log`; no details are a null of no size.
    unsafe {
        proxy_send_local_response(
            status,
            details,
            none,
            at,
            size,
            headers,
            headers_size,
            grpc_status,
        )
    };
}

/// The bytes that a call hands over; `None` for every status but Ok, and for none.
fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    let status = call(&mut value, &mut size);
    if status != OK || value.is_null() {
        return None;
    }
    // SAFETY: the host has written `size` bytes to where the SDK's `malloc` allocated exactly as
    // many, and has given them away.
    Some(unsafe { Vec::from_raw_parts(value, size, size) })
}
