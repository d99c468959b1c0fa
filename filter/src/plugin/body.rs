//! What a paused body means to the host: it keeps what came, hands over what comes and slows its sender
//! down at its limit. What the SDK knows of pausing has every piece handed over anew, and beyond the
//! limit the host answers by itself.

use proxy_wasm::types::Action;

/// The host's word for: keep it, and slow its sender down at the limit.
const WATERMARK: u32 = 2;

unsafe extern "C" {
    /// The SDK's callback.
    fn proxy_on_request_body(context: u32, size: usize, end_of_stream: bool) -> Action;
}

/// The callback that the host calls; the linker gives it the SDK's name.
#[unsafe(no_mangle)]
pub extern "C" fn pointsman_on_request_body(context: u32, size: usize, end_of_stream: bool) -> u32 {
    // SAFETY: as the host calls it.
    match unsafe { proxy_on_request_body(context, size, end_of_stream) } {
        Action::Continue => 0,
        _ => WATERMARK,
    }
}
