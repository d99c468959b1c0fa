//! A stream's callbacks: gather, decide, apply.

use std::rc::Rc;

use log::Level;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::metrics::Counter;
use super::vm::Vm;
use super::{apply, gather, host};
use crate::base::event::EventName;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::json_rpc::{Asked, Fault, NO_ID};
use crate::stream::{Step, Stream};

/// So much of a body is read at once, bytes: linear memory never shrinks.
const WINDOW: usize = 16_384;

/// A stream between the host and the core.
pub struct Downstream {
    vm: Rc<Vm>,
    /// Absent before the first configuration, and from the pick on.
    snapshot: Option<Rc<Snapshot>>,
    stream: Stream,
    /// By which the module knows its attempts upstream, until its response begins.
    mark: Option<u64>,
    /// Absent where the client does not read errors of JSON-RPC.
    rpc: Option<Box<Rpc>>,
}

/// A request whose client reads errors of JSON-RPC.
struct Rpc {
    cluster: Rc<Cluster>,
    /// As JSON.
    id: String,
}

impl Downstream {
    /// A stream that has not begun.
    pub fn new(vm: Rc<Vm>, snapshot: Option<Rc<Snapshot>>) -> Self {
        Downstream {
            vm,
            snapshot,
            stream: Stream::default(),
            mark: None,
            rpc: None,
        }
    }

    fn unmark(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.vm.unmark(mark);
        }
    }

    /// `None` where the request is none of ours.
    fn begin(&mut self, end_of_stream: bool) -> Option<Action> {
        let snapshot = self.snapshot.take()?;
        let cluster = gather::cluster(&self.vm, &snapshot)?;
        let rules = cluster.json_rpc.as_ref().filter(|_| !end_of_stream);
        Some(match rules.and_then(gather::announced_body) {
            Some(length) => {
                self.snapshot = Some(snapshot);
                self.hold(&cluster, length)
            }
            None => self.decide(&snapshot.header, cluster, end_of_stream, None),
        })
    }

    fn decide(
        &mut self,
        header: &str,
        cluster: Rc<Cluster>,
        whole: bool,
        held: Option<u32>,
    ) -> Action {
        let arrival = gather::arrival(&self.vm, cluster, whole, held);
        self.vm.picked.set(true);
        let mut replace = apply::records(&self.vm, &arrival);
        let step = self
            .vm
            .with_rng(|rng| self.stream.arrive(&arrival, rng, &mut replace));
        apply::note_tokens(&self.vm, &arrival);
        self.mark = self.stream.trail().map(|trail| self.vm.mark(trail));
        match step {
            Step::Forward { plan, fails_open } => {
                let method = || match held {
                    // Only a POST is held.
                    Some(_) => b"POST".to_vec(),
                    None => host::request_header(":method").unwrap_or_default(),
                };
                apply::forward(&self.vm, header, &arrival, &plan, method);
                if fails_open {
                    apply::latch_fail_open(&self.vm, &arrival);
                }
                Action::Continue
            }
            Step::Refuse {
                reason,
                retry_after_ns,
            } => {
                let id = self.rpc.take().map(|rpc| rpc.id);
                let refusal = (reason, retry_after_ns);
                apply::refuse(&self.vm, &arrival.cluster, refusal, id.as_deref());
                Action::Pause
            }
        }
    }

    /// Holds a request until its body says what it asks for, unless that is too large already.
    fn hold(&mut self, cluster: &Rc<Cluster>, length: Result<(), Fault>) -> Action {
        if let Err(fault) = length {
            self.stream.answer();
            apply::refuse_body(&self.vm, cluster, fault);
            return Action::Pause;
        }
        let client = gather::client(&self.vm, cluster);
        if let Some(Step::Refuse {
            reason,
            retry_after_ns,
        }) = self.stream.hold(cluster, client.as_ref())
        {
            let rules = cluster.json_rpc.as_ref();
            let maps = rules.is_some_and(|rules| rules.maps_errors);
            let id = maps.then_some(NO_ID);
            apply::refuse(&self.vm, cluster, (reason, retry_after_ns), id);
        }
        Action::Pause
    }

    /// Reads on in the body of a request that is held: what has come since the last time.
    fn read(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.vm.bodies_settled.set(true);
        let mut start = 0;
        loop {
            let piece = match start < size {
                true => host::request_body(start, WINDOW),
                false => Vec::new(),
            };
            start = start.saturating_add(piece.len());
            let is_last = start >= size || piece.is_empty();
            let cluster = self.stream.held().cloned();
            let known = self.stream.read(&piece, is_last && end_of_stream);
            match (known, cluster) {
                (Some(known), Some(cluster)) => {
                    return self.settle(&cluster, known, end_of_stream);
                }
                _ if is_last => return Action::Pause,
                _ => {}
            }
        }
    }

    fn settle(
        &mut self,
        cluster: &Rc<Cluster>,
        known: Result<Asked, Fault>,
        whole: bool,
    ) -> Action {
        let (Some(snapshot), Some(rules)) = (self.snapshot.take(), &cluster.json_rpc) else {
            return Action::Continue;
        };
        let asked = match known {
            Ok(asked) => asked,
            Err(fault) => {
                apply::refuse_body(&self.vm, cluster, fault);
                return Action::Pause;
            }
        };
        let method = Counter::Method(asked.label(rules));
        self.vm.metrics.count(cluster, method);
        let cost = asked.cost();
        self.rpc = rules.maps_errors.then(|| {
            let (cluster, id) = (cluster.clone(), asked.into_id());
            Box::new(Rpc { cluster, id })
        });
        self.decide(&snapshot.header, cluster.clone(), whole, Some(cost))
    }

    /// All of the request is here.
    fn ended(&mut self) {
        if self.stream.times_request() {
            self.stream.request_ended(host::now());
        }
    }

    /// A request ends that was held for a body that never came. One whose client left looks the same, so
    /// that it may be the proxy is only said while no body was ever seen.
    fn count_missed(&self, cluster: &Cluster) {
        self.vm.metrics.count(cluster, Counter::BodyMissed);
        if !self.vm.bodies_settled.replace(true) {
            let why = "reason=\"nothing of a request's body came: allow_on_headers_stop_iteration \
                       must be true in the filter's config\"";
            let fields = format!("cluster={} {why}", cluster.name);
            let cluster = (cluster.key, &*cluster.name);
            let (event, level) = (EventName::BodyMissed, Level::Error);
            self.vm.metrics.happened(cluster, event, level, &fields);
        }
    }
}

impl Context for Downstream {}

/// The end of every stream, with all its properties: the host deletes its context then. Callbacks
/// that tell the same a moment before (done, log) would each be one more call into the VM.
impl Drop for Downstream {
    fn drop(&mut self) {
        self.unmark();
        if let Some(cluster) = self.stream.missed_body() {
            self.count_missed(cluster);
        }
        let answer = gather::answer_at_end(&self.stream);
        let effects = self.stream.end(answer.as_ref());
        effects
            .iter()
            .for_each(|effects| apply::effects(&self.vm, effects));
    }
}

impl HttpContext for Downstream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.begin(end_of_stream).unwrap_or(Action::Continue)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.stream.held().is_some() {
            return self.read(size, end_of_stream);
        }
        if self.stream.is_answered() {
            return Action::Pause;
        }
        if end_of_stream {
            self.ended();
        }
        Action::Continue
    }

    /// A body's end, where trailers follow.
    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        self.on_http_request_body(0, true)
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.unmark();
        let answer = gather::answer_at_response(&self.stream, end_of_stream);
        let effects = answer.and_then(|answer| self.stream.respond(&answer));
        effects
            .iter()
            .for_each(|effects| apply::effects(&self.vm, effects));
        if let Some(rpc) = self.rpc.take()
            && apply::map_error(&self.vm, &rpc.cluster, &rpc.id)
        {
            return Action::Pause;
        }
        Action::Continue
    }
}
