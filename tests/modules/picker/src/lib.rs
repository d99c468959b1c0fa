//! A picker without any logic: it asks the host what every picker must ask it (the cluster's name, what is
//! held against its backends, who served and how) and writes a ready-made list. What the filter costs more
//! is the price of its rules.

#[cfg(target_arch = "wasm32")]
mod picker {
    use std::cell::Cell;
    use std::hint::black_box;
    use std::rc::Rc;

    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, ContextType};

    const LIST: &str = "x-gateway-destination-endpoint";
    /// Nothing is held against anybody: an empty value is read.
    const GATES: &str = "2/g/0000000000000000";

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root::default()));
    }}

    /// The linker gives it the SDK's name, as it does for the filter.
    #[allow(unsafe_code, reason = "the host finds it by its name")]
    #[unsafe(no_mangle)]
    extern "C" fn pointsman_on_request_body(_: u32, _: usize, _: bool) -> u32 {
        Action::Continue as u32
    }

    #[derive(Default)]
    struct Root {
        /// A line of the configuration each.
        lists: Rc<Vec<String>>,
        turn: Rc<Cell<usize>>,
    }

    impl Context for Root {}

    impl RootContext for Root {
        fn on_configure(&mut self, _size: usize) -> bool {
            let bytes = self.get_plugin_configuration().unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            self.lists = Rc::new(text.lines().map(str::to_owned).collect());
            !self.lists.is_empty()
        }

        fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Stream {
                lists: self.lists.clone(),
                turn: self.turn.clone(),
            }))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }

    struct Stream {
        lists: Rc<Vec<String>>,
        turn: Rc<Cell<usize>>,
    }

    impl Context for Stream {}

    impl HttpContext for Stream {
        fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
            drop(black_box(self.get_property(vec!["xds", "cluster_name"])));
            drop(black_box(self.get_shared_data(GATES)));
            let turn = self.turn.get();
            self.turn.set((turn + 1) % self.lists.len());
            self.set_http_request_header(LIST, Some(&self.lists[turn]));
            Action::Continue
        }

        fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
            drop(black_box(self.get_property(vec!["upstream", "address"])));
            drop(black_box(self.get_http_response_header(":status")));
            Action::Continue
        }
    }
}
