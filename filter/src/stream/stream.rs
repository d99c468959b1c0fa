//! The life of one stream: what its arrival, its response and its end lead to.

use std::rc::Rc;

use super::attempts::{Answer, Outcome, judge};
use super::cookie;
use crate::balance::list::List;
use crate::balance::route::{Decision, Facts, PickReason, Plan, RefusalReason, route};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::load::Load;
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::{Cooldown, Metric};
use crate::gates::evidence::Met;
use crate::gates::transition::GateChange;
use crate::gates::view::GatesView;

/// Longest time that is taken in, nanoseconds: what seems longer may be a clock that stepped forward.
const TIME_MAX_NS: u64 = 60_000_000_000;

/// A request of one of our clusters.
pub struct Arrival {
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// The cluster's gates, as they stand in shared data.
    pub gates: Vec<u8>,
    /// What the client's sticky cookies say, in a sticky cluster.
    pub cookies: Vec<Vec<u8>>,
    /// The method.
    pub method: Vec<u8>,
    /// The request ends with its headers.
    pub whole: bool,
    /// Wall clock.
    pub now: WallTime,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is sent along a list.
    Forward {
        /// The list, and why.
        plan: Plan,
        /// It is the first that is sent to the unhealthy: fail-open begins (GT-7).
        fails_open: bool,
    },
    /// It is answered here.
    Refuse {
        /// Why.
        reason: RefusalReason,
        /// The soonest end of a back-off, from now, nanoseconds.
        retry_after_ns: Option<u64>,
    },
}

/// What a response, or an end without one, leads to.
pub struct Effects {
    /// The stream's cluster.
    pub cluster: Rc<Cluster>,
    /// What the attempts prove.
    pub outcome: Outcome,
    /// The line that names the backend that served, for a client that does not know it.
    pub set_cookie: Option<String>,
    picked_at: WallTime,
    changes_gates: bool,
    measurement: Option<Measurement>,
}

/// A time of an endpoint: that in which it served, or that in which it did not.
struct Measurement {
    load: Rc<Load>,
    time: Time,
}

enum Time {
    /// Nanoseconds.
    Lasted(u64),
    /// Until now.
    Since(WallTime),
}

impl Effects {
    /// Whether any of them depends on the time: reading the clock is a call to the host.
    pub fn need_clock(&self) -> bool {
        self.changes_gates || self.measurement.is_some()
    }

    /// The change of the cluster's gates; `None` where nothing is news.
    pub fn gate_change(&self, now: WallTime) -> Option<GateChange> {
        self.changes_gates.then(|| GateChange {
            evidence: self.outcome.evidence().collect(),
            picked_at: self.picked_at,
            now,
        })
    }

    /// Takes in the time of an endpoint, where the cluster's policy weighs one.
    pub fn measure(&self, now: WallTime) {
        if let Some(Measurement { load, time }) = &self.measurement {
            let time_ns = match time {
                Time::Lasted(time_ns) => *time_ns,
                Time::Since(start) => now.since(*start),
            };
            load.observe(time_ns.min(TIME_MAX_NS), now);
        }
    }
}

/// What the questions about a response depend on.
pub struct Awaited<'a> {
    /// The first address of the list.
    pub first: &'a str,
    /// What the policy weighs.
    pub metric: Metric,
    /// Which statuses cool a backend down.
    pub cooldown: Option<&'a Cooldown>,
}

/// One stream. It may outlive its configuration by hours.
#[derive(Default)]
pub struct Stream(Stage);

/// How far a stream is.
#[derive(Default)]
enum Stage {
    /// Not picked, or over.
    #[default]
    Idle,
    /// Picked, and no response has begun. Charged to the pick.
    Picked(Box<Picked>),
    /// The response has begun; charged to the endpoint that serves.
    Served(Rc<Load>),
}

/// What a stream remembers of its pick until its response begins.
struct Picked {
    cluster: Rc<Cluster>,
    list: List,
    load: Rc<Load>,
    /// What the client's sticky cookies said.
    cookies: Vec<Vec<u8>>,
    picked_at: WallTime,
    /// When all of the request was here: from then on only the backend's time counts.
    whole_at: Option<WallTime>,
    /// Some entry had something counted against it: its success is news.
    had_counts: bool,
}

impl Stream {
    /// Decides where a request goes, and charges the pick with it.
    pub fn arrive(&mut self, arrival: &Arrival, rng: &mut SplitMix64) -> Step {
        let cluster = &arrival.cluster;
        let gates = &GatesView::read(cluster, &arrival.gates);
        let facts = Facts {
            cluster,
            gates,
            cookies: &arrival.cookies,
            now: arrival.now,
        };
        match route(&facts, rng) {
            Decision::Forward(plan) => {
                plan.commit(&facts);
                self.0 = Stage::pick(arrival, &plan, gates);
                let fails_open = plan.reason == PickReason::FailOpen && !gates.fail_open();
                Step::Forward { plan, fails_open }
            }
            Decision::Refuse {
                reason,
                retry_after_ns,
            } => Step::Refuse {
                reason,
                retry_after_ns,
            },
        }
    }

    /// Whether the end of the request's body is to be told: a policy weighs the time from then on.
    pub fn times_request(&self) -> bool {
        matches!(&self.0, Stage::Picked(picked) if picked.cluster.balancing.metric.is_time())
    }

    /// All of the request is here.
    pub fn request_ended(&mut self, now: WallTime) {
        if let Stage::Picked(picked) = &mut self.0 {
            picked.whole_at = Some(now);
        }
    }

    /// What to ask of the host depends on, while a response is awaited.
    pub fn awaits_response(&self) -> Option<Awaited<'_>> {
        let Stage::Picked(picked) = &self.0 else {
            return None;
        };
        let first = picked.list.first().and_then(|e| picked.cluster.endpoint(e));
        Some(Awaited {
            first: first.map_or("", |endpoint| &*endpoint.address),
            metric: picked.cluster.balancing.metric,
            cooldown: picked.cluster.cooldown.as_ref(),
        })
    }

    /// The response begins. From here on the stream is charged to the endpoint that serves: it may
    /// live there for hours.
    pub fn respond(&mut self, answer: &Answer) -> Option<Effects> {
        let picked = self.take_picked()?;
        let mut effects = picked.effects(answer);
        if let Some((served, endpoint)) = effects.outcome.served().and_then(|served| {
            let endpoint = picked.cluster.endpoint(served)?;
            Some((served, endpoint))
        }) {
            effects.set_cookie = cookie::set_cookie(&picked.cluster, served, &picked.cookies);
            effects.measurement = picked.measurement(&endpoint.load, answer);
            endpoint.load.begin();
            self.0 = Stage::Served(endpoint.load.clone());
        }
        picked.load.end();
        Some(effects)
    }

    /// The stream ends. `answer` is what Envoy says of the attempts, asked only where no response
    /// had begun: the client has left. That proves nothing of the endpoint but that it takes at least
    /// so long (LB-7).
    pub fn end(&mut self, answer: Option<&Answer>) -> Option<Effects> {
        if let Stage::Served(load) = &self.0 {
            load.end();
            self.0 = Stage::Idle;
        }
        let picked = self.take_picked()?;
        picked.load.end();
        answer.map(|answer| {
            let mut effects = picked.effects(answer);
            if picked.asks_first(answer) {
                effects.measurement = picked.measurement(&picked.load, answer);
            }
            effects
        })
    }

    fn take_picked(&mut self) -> Option<Box<Picked>> {
        match std::mem::take(&mut self.0) {
            Stage::Picked(picked) => Some(picked),
            stage => {
                self.0 = stage;
                None
            }
        }
    }
}

impl Stage {
    fn pick(arrival: &Arrival, plan: &Plan, gates: &GatesView<'_>) -> Self {
        let cluster = &arrival.cluster;
        let Some(first) = plan.list.first().and_then(|first| cluster.endpoint(first)) else {
            return Stage::Idle;
        };
        first.load.begin();
        let has_counts = |e: &EndpointIndex| gates.has_counts(*e);
        Stage::Picked(Box::new(Picked {
            cluster: cluster.clone(),
            list: plan.list,
            load: first.load.clone(),
            cookies: arrival.cookies.clone(),
            picked_at: arrival.now,
            whole_at: arrival.whole.then_some(arrival.now),
            had_counts: plan.list.entries().iter().any(has_counts),
        }))
    }
}

impl Picked {
    fn effects(&self, answer: &Answer) -> Effects {
        let cluster = &self.cluster;
        let outcome = judge(cluster, &self.list, cluster.retry.transport_only, answer);
        let is_news = outcome.evidence().any(|met| met.what != Met::Served);
        let served = outcome.served().is_some();
        Effects {
            cluster: cluster.clone(),
            outcome,
            set_cookie: None,
            picked_at: self.picked_at,
            changes_gates: is_news || (self.had_counts && served),
            measurement: None,
        }
    }

    /// Whether the last attempt is at the pick itself.
    fn asks_first(&self, answer: &Answer) -> bool {
        let first = self.list.first().and_then(|e| self.cluster.endpoint(e));
        first.is_some_and(|first| answer.address.as_deref() == Some(first.address.as_bytes()))
    }

    /// The time that the cluster's policy weighs, if it weighs one. The first attempt alone says
    /// something of the endpoint; a later one also says how long the others took to fail. And the
    /// time that the client took to send its body is not the endpoint's: no client steers picks.
    fn measurement(&self, load: &Rc<Load>, answer: &Answer) -> Option<Measurement> {
        let metric = self.cluster.balancing.metric;
        // A refusal is quick, whatever the backend's work takes.
        if !metric.is_time() || answer.attempts != 1 || answer.status.is_some() {
            return None;
        }
        let time = match metric {
            Metric::ConnectionTime => Time::Lasted(answer.connection_time_ns?),
            // An answer that began before the whole request was here says nothing of either.
            _ => Time::Since(self.whole_at?),
        };
        Some(Measurement {
            load: load.clone(),
            time,
        })
    }
}

#[cfg(test)]
mod tests;
