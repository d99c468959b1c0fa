//! A filter that lets every request go on: what a wasm filter costs before it does anything. It is linked
//! as the shipped one is, so that the host calls it as often.

#[cfg(target_arch = "wasm32")]
mod noop {
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, ContextType};

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root));
    }}

    /// The linker gives it the SDK's name, as it does for the filter.
    #[allow(unsafe_code, reason = "the host finds it by its name")]
    #[unsafe(no_mangle)]
    extern "C" fn pointsman_on_request_body(_: u32, _: usize, _: bool) -> u32 {
        Action::Continue as u32
    }

    struct Root;

    impl Context for Root {}

    impl RootContext for Root {
        fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Stream))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }

    struct Stream;

    impl Context for Stream {}

    impl HttpContext for Stream {}
}
