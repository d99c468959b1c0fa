//! The adapter between the host and the core: values in, values out, no rule.
//!
//! A callback that is added here is added to the list of exports in `filter/linker.py`, too: the
//! host never calls one that is not exported.

mod apply;
#[allow(unsafe_code)] // It stands between the host and the SDK.
mod body;
mod downstream;
mod gather;
mod heartbeats;
mod host;
mod leader;
mod metrics;
mod root;
mod shared;
mod sidecar;
mod tick;
mod upstream;
mod vm;

pub use root::root;

#[allow(unsafe_code)] // The macro exports the function that the host calls first.
mod entry {
    proxy_wasm::main! {{
        super::host::start_log();
        proxy_wasm::set_root_context(super::root);
    }}
}
