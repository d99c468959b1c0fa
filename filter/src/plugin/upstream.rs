//! One attempt's callbacks, upstream of the router: gather, decide, apply.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::vm::Vm;
use super::{apply, gather, host};
use crate::stream::Effects;
use crate::stream::upstream::Attempt;

/// An attempt between the host and the core.
pub struct Upstream {
    vm: Rc<Vm>,
    /// Absent where no stream of ours is behind it.
    attempt: Option<Attempt>,
}

impl Upstream {
    /// An attempt that has not begun.
    pub fn new(vm: Rc<Vm>) -> Self {
        Upstream { vm, attempt: None }
    }

    fn apply(&self, effects: Option<Effects>) {
        effects
            .iter()
            .for_each(|effects| apply::effects(&self.vm, effects));
    }
}

impl Context for Upstream {}

/// The end of every attempt, with all its properties.
impl Drop for Upstream {
    fn drop(&mut self) {
        let attempt = self.attempt.as_mut();
        let effects = attempt.and_then(|attempt| attempt.end(&gather::attempts_end(attempt)?));
        self.apply(effects);
    }
}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        if let Some(trail) = self.vm.marked_trail() {
            let (attempt, effects) = Attempt::begin(trail, host::now);
            self.attempt = Some(attempt);
            self.apply(effects);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let effects = self.attempt.as_mut().and_then(|attempt| {
            let said = gather::attempts_answer(attempt, end_of_stream);
            attempt.respond(said)
        });
        self.apply(effects);
        Action::Continue
    }
}
