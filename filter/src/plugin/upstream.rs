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
    /// Absent before it begins.
    attempt: Option<Attempt>,
}

impl Upstream {
    /// An attempt that has not begun.
    pub fn new(vm: Rc<Vm>) -> Self {
        Upstream { vm, attempt: None }
    }

    /// The attempt, matched with its stream.
    fn matched(&mut self) -> Option<&mut Attempt> {
        let attempt = self.attempt.as_mut()?;
        attempt.look(|| self.vm.marked_trail());
        Some(attempt)
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
        let vm = self.vm.clone();
        let effects = self.matched().and_then(|attempt| {
            let end = gather::attempts_end(attempt)?;
            attempt.end(&end, &vm.trails.borrow())
        });
        self.apply(effects);
    }
}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let (is_timed, awaits) = {
            let trails = self.vm.trails.borrow();
            (trails.any_is_timed(), trails.any_awaits())
        };
        self.attempt = Some(Attempt::begin(is_timed.then(host::now)));
        if awaits {
            let effects = self.matched().and_then(Attempt::follow);
            self.apply(effects);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let effects = match gather::attempts_error(end_of_stream) {
            None => {
                self.attempt.iter_mut().for_each(Attempt::pass);
                None
            }
            Some(code) => self.matched().and_then(|attempt| {
                let said = gather::attempts_answer(attempt, code);
                attempt.respond(said)
            }),
        };
        self.apply(effects);
        Action::Continue
    }
}
