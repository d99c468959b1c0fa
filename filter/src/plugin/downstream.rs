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
use crate::cluster::Cluster;
use crate::cluster::load::Load;
use crate::cluster::snapshot::Registry;
use crate::config::Metric;
use crate::gates::transition::{self, Change, Outcome, Server};
use crate::stream::cookie;

/// One stream. It may outlive its configuration by hours.
pub struct Stream {
    vm: Rc<Vm>,
    registry: Option<Rc<Registry>>,
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
    said: Option<Vec<u8>>,
    picked_ns: u64,
    /// When all of the request was here: from then on nobody's time counts but the backend's.
    whole_ns: Option<u64>,
    /// Some entry had failures counted against it: its success is news.
    had_failures: bool,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(vm: Rc<Vm>, registry: Option<Rc<Registry>>) -> Self {
        Stream {
            vm,
            registry,
            stage: Stage::Idle,
        }
    }

    fn pick(&mut self, end_of_stream: bool) -> Action {
        let Some(registry) = self.registry.take() else {
            return Action::Continue;
        };
        let Some(mut arrival) = gather::arrival(&registry) else {
            return Action::Continue;
        };
        let vm = &self.vm;
        let (decision, latched, had_failures) = {
            let cluster = &arrival.cluster;
            cluster.with_marks(&arrival.gates.0, arrival.gates.1, |marks| {
                let sticky = arrival.said.as_deref();
                let facts = Facts {
                    cluster,
                    marks,
                    sticky,
                    now_ns: arrival.now_ns,
                };
                let decision = vm.with_rng(|rng| route::route(&facts, rng));
                let had_failures = match &decision {
                    Decision::Forward(Plan { list, .. }) => list
                        .entries()
                        .iter()
                        .any(|e| marks.of(*e).is_some_and(|m| m.tries > 0)),
                    Decision::Refuse { .. } => false,
                };
                (decision, marks.fail_open, had_failures)
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
                apply::forward(vm, &registry, &arrival, &plan);
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
                    said: arrival.said.take(),
                    picked_ns: arrival.now_ns,
                    whole_ns: end_of_stream.then_some(arrival.now_ns),
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
        if let Some(line) = cookie::set_cookie(cluster, served, picked.said.as_deref()) {
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
        let (cluster, stats) = (&picked.cluster, &self.vm.stats);
        let seen = attempts.observation();
        let outcome = transition::judge(cluster, &picked.list, cluster.retry.transport_only, &seen);
        for _ in outcome.failed.entries() {
            stats.count(cluster, Counter::Failure("connect"));
        }
        if outcome.exhausted {
            stats.count(cluster, Counter::Exhausted);
        }
        let served = match outcome.server {
            Server::Endpoint(served) => Some(served),
            Server::Spill => {
                stats.count(cluster, Counter::Pick("spill"));
                None
            }
            Server::Nobody => None,
        };
        if !outcome.failed.is_empty() || (picked.had_failures && served.is_some()) {
            let now_ns = host::now_ns();
            let change = Change {
                failed: outcome.failed,
                served,
                picked_ns: picked.picked_ns,
                now_ns,
            };
            let vm = &self.vm;
            shared::change_gates(cluster, stats, |gates| {
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
    let now_ns = host::now_ns();
    let time_ns = match metric {
        Metric::ConnectionTime => gather::connection_time_ns(),
        // An answer that began before the whole request was here says nothing of either.
        _ => picked.whole_ns.map(|whole| now_ns.saturating_sub(whole)),
    };
    if let Some(time_ns) = time_ns {
        load.observe(time_ns, now_ns);
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
            picked.whole_ns = Some(host::now_ns());
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.respond(end_of_stream);
        Action::Continue
    }
}
