//! A stream's callbacks: gather, decide, apply.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::gather::{self, Attempts};
use super::metrics::Counter;
use super::vm::Vm;
use super::{apply, host, shared};
use crate::balance::list::List;
use crate::balance::route::{self, Decision, Facts, PickReason, Plan};
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::load::Load;
use crate::cluster::snapshot::Snapshot;
use crate::config::Metric;
use crate::gates::transition::GateChange;
use crate::gates::view::GatesView;
use crate::stream::attempts::{self, Outcome, Server};
use crate::stream::cookie;

/// One stream. It may outlive its configuration by hours.
pub struct Stream {
    vm: Rc<Vm>,
    snapshot: Option<Rc<Snapshot>>,
    stage: Stage,
}

/// How far a stream is.
enum Stage {
    /// Not picked, or over.
    Idle,
    /// Picked, and no response has begun. Charged to the pick.
    Picked(Box<Picked>),
    /// The response has begun; charged to who serves.
    Served(Rc<Load>),
}

/// What a stream remembers of its pick until its response begins.
struct Picked {
    cluster: Rc<Cluster>,
    list: List,
    load: Rc<Load>,
    /// What the client's sticky cookie said.
    cookie: Option<Vec<u8>>,
    picked_at: WallTime,
    /// When all of the request was here: from then on nobody's time counts but the backend's.
    whole_at: Option<WallTime>,
    /// Some entry had failures counted against it: its success is news.
    had_failures: bool,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(vm: Rc<Vm>, snapshot: Option<Rc<Snapshot>>) -> Self {
        Stream {
            vm,
            snapshot,
            stage: Stage::Idle,
        }
    }

    fn pick(&mut self, end_of_stream: bool) -> Action {
        let Some(snapshot) = self.snapshot.take() else {
            return Action::Continue;
        };
        let Some(mut arrival) = gather::arrival(&snapshot) else {
            return Action::Continue;
        };
        let vm = &self.vm;
        let (decision, latched, had_failures) = {
            let cluster = &arrival.cluster;
            GatesView::with(cluster, &arrival.gates.0, arrival.gates.1, |gates| {
                let sticky = arrival.cookie.as_deref();
                let facts = Facts {
                    cluster,
                    gates,
                    sticky,
                    now: arrival.now,
                };
                let decision = vm.with_rng(|rng| route::route(&facts, rng));
                let had_failures = match &decision {
                    Decision::Forward(Plan { list, .. }) => list
                        .entries()
                        .iter()
                        .any(|e| gates.of(*e).is_some_and(|gate| gate.tries > 0)),
                    Decision::Refuse { .. } => false,
                };
                (decision, gates.fail_open, had_failures)
            })
        };
        match decision {
            Decision::Refuse {
                reason,
                retry_after_ns,
            } => {
                apply::refuse(vm, &arrival, reason, retry_after_ns);
                Action::Pause
            }
            Decision::Forward(plan) => {
                apply::forward(vm, &snapshot, &arrival, &plan);
                let failing_open = plan.reason == PickReason::FailOpen;
                if failing_open != latched {
                    apply::latch_fail_open(vm, &arrival, failing_open);
                }
                let first = plan
                    .list
                    .first()
                    .and_then(|first| arrival.cluster.endpoint(first));
                let Some(load) = first.map(|endpoint| endpoint.load.clone()) else {
                    return Action::Continue;
                };
                load.begin();
                self.stage = Stage::Picked(Box::new(Picked {
                    list: plan.list,
                    load,
                    cookie: arrival.cookie.take(),
                    picked_at: arrival.now,
                    whole_at: end_of_stream.then_some(arrival.now),
                    had_failures,
                    cluster: arrival.cluster,
                }));
                Action::Continue
            }
        }
    }

    fn respond(&mut self, end_of_stream: bool) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Picked(picked) = stage else {
            self.stage = stage;
            return;
        };
        let first = picked
            .list
            .first()
            .and_then(|first| picked.cluster.endpoint(first));
        let first = first.map_or(&b""[..], |endpoint| endpoint.address.as_bytes());
        let attempts = gather::attempts_at_response(first, end_of_stream);
        let outcome = self.account(&picked, &attempts);
        let Server::Endpoint(served) = outcome.server else {
            picked.load.end();
            return;
        };
        let cluster = &picked.cluster;
        if let Some(line) = cookie::set_cookie(cluster, served, picked.cookie.as_deref()) {
            host::add_response_header("set-cookie", &line);
        }
        let Some(endpoint) = cluster.endpoint(served) else {
            return;
        };
        observe_time(&picked, &endpoint.load, &attempts);
        // The stream may live for hours from here: it counts where it really is.
        endpoint.load.begin();
        picked.load.end();
        self.stage = Stage::Served(endpoint.load.clone());
    }

    fn end(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Served(load) => load.end(),
            Stage::Picked(picked) => {
                self.account(&picked, &gather::attempts_at_end());
                picked.load.end();
            }
        }
    }

    /// Reads who failed and who served out of the attempts, counts it, and changes the gates if
    /// that is news.
    fn account(&self, picked: &Picked, attempts: &Attempts) -> Outcome {
        let (cluster, metrics) = (&picked.cluster, &self.vm.metrics);
        let seen = attempts.observation();
        let outcome = attempts::judge(cluster, &picked.list, cluster.retry.transport_only, &seen);
        for _ in outcome.failed.entries() {
            metrics.count(cluster, Counter::Failure("connect"));
        }
        if outcome.exhausted {
            metrics.count(cluster, Counter::Exhausted);
        }
        let served = match outcome.server {
            Server::Endpoint(served) => Some(served),
            Server::Spill => {
                metrics.count(cluster, Counter::Pick("spill"));
                None
            }
            Server::Nobody => None,
        };
        if !outcome.failed.is_empty() || (picked.had_failures && served.is_some()) {
            let now = host::now();
            let change = GateChange {
                failed: outcome.failed.entries(),
                served,
                picked_at: picked.picked_at,
                now,
            };
            let vm = &self.vm;
            shared::change_gates(cluster, metrics, |gates| {
                vm.with_rng(|rng| change.apply(cluster, gates, rng))
            });
        }
        outcome
    }
}

/// Measures the time that the cluster's policy weighs, if it weighs one. The first attempt alone
/// says something of the endpoint; a later one also says how long the others took to fail. And the
/// time that the client took to send its body is not the endpoint's: no client steers picks.
fn observe_time(picked: &Picked, load: &Load, attempts: &Attempts) {
    let metric = picked.cluster.balancing.metric;
    if !metric.is_time() || attempts.observation().attempts != 1 {
        return;
    }
    let now = host::now();
    let time_ns = match metric {
        Metric::ConnectionTime => gather::connection_time_ns(),
        // An answer that began before the whole request was here says nothing of either.
        _ => picked.whole_at.map(|whole| now.since(whole)),
    };
    if let Some(time_ns) = time_ns {
        load.observe(time_ns, now);
    }
}

impl Context for Stream {}

/// The end of every stream, with all its properties: the host deletes its context then. Callbacks
/// that tell the same a moment before (done, log) would each be one more call into the VM.
impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.pick(end_of_stream)
    }

    fn on_http_request_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        if let Stage::Picked(picked) = &mut self.stage
            && end_of_stream
            && picked.cluster.balancing.metric.is_time()
        {
            picked.whole_at = Some(host::now());
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.respond(end_of_stream);
        Action::Continue
    }
}
