//! A stream's callbacks: gather, decide, apply.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::vm::Vm;
use super::{apply, gather, host};
use crate::cluster::snapshot::Snapshot;
use crate::stream::{Step, Stream};

/// A stream between the host and the core.
pub struct Downstream {
    vm: Rc<Vm>,
    /// Absent before the first configuration, and from the pick on.
    snapshot: Option<Rc<Snapshot>>,
    stream: Stream,
}

impl Downstream {
    /// A stream that has not begun.
    pub fn new(vm: Rc<Vm>, snapshot: Option<Rc<Snapshot>>) -> Self {
        Downstream {
            vm,
            snapshot,
            stream: Stream::default(),
        }
    }

    /// `None` where the request is none of ours.
    fn arrive(&mut self, end_of_stream: bool) -> Option<Action> {
        let snapshot = self.snapshot.take()?;
        let arrival = gather::arrival(&self.vm, &snapshot, end_of_stream)?;
        self.vm.picked_at.set(arrival.now);
        let step = self.vm.with_rng(|rng| self.stream.arrive(&arrival, rng));
        Some(match step {
            Step::Forward { plan, fails_open } => {
                apply::forward(&self.vm, &snapshot.header, &arrival, &plan, fails_open);
                Action::Continue
            }
            Step::Refuse {
                reason,
                retry_after_ns,
            } => {
                apply::refuse(&self.vm, &arrival, reason, retry_after_ns);
                Action::Pause
            }
        })
    }
}

impl Context for Downstream {}

/// The end of every stream, with all its properties: the host deletes its context then. Callbacks
/// that tell the same a moment before (done, log) would each be one more call into the VM.
impl Drop for Downstream {
    fn drop(&mut self) {
        let answer = gather::answer_at_end(&self.stream);
        let effects = self.stream.end(answer.as_ref());
        effects
            .iter()
            .for_each(|effects| apply::effects(&self.vm, effects));
    }
}

impl HttpContext for Downstream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.arrive(end_of_stream).unwrap_or(Action::Continue)
    }

    fn on_http_request_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        if end_of_stream && self.stream.times_request() {
            self.stream.request_ended(host::now());
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let answer = gather::answer_at_response(&self.stream, end_of_stream);
        let effects = answer.and_then(|answer| self.stream.respond(&answer));
        effects
            .iter()
            .for_each(|effects| apply::effects(&self.vm, effects));
        Action::Continue
    }
}
