//! The functions of the host that are called without the SDK.

/// The host's word for: done.
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, value_size: *mut usize) -> u32;
}

/// A property's bytes; `None` for every status but Ok, and for none.
pub fn property(path: &str) -> Option<Vec<u8>> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the path is readable and both results are writable for the time of the call.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut value, &mut size) };
    taken(status, value, size)
}

/// A whole map of headers, as the host writes it; `None` for every status but Ok, and for none.
pub fn headers(map: u32) -> Option<Vec<u8>> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: both results are writable for the time of the call.
    let status = unsafe { proxy_get_header_map_pairs(map, &mut value, &mut size) };
    taken(status, value, size)
}

fn taken(status: u32, value: *mut u8, size: usize) -> Option<Vec<u8>> {
    if status != OK || value.is_null() {
        return None;
    }
    // SAFETY: the host has written `size` bytes to where the SDK's `malloc` allocated exactly as
    // many, and has given them away.
    Some(unsafe { Vec::from_raw_parts(value, size, size) })
}
