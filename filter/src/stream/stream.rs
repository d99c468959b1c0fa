//! The life of one stream: what its arrival, its response and its end lead to.

use std::borrow::Cow;
use std::rc::Rc;

use super::arrival::{Arrival, Record, Replace, Step};
use super::attempts::{Answer, judge};
use super::cookie;
use super::effects::{Effects, Measurement, Time};
use super::held::Held;
use super::tokens;
use super::trails::Trail;
use crate::balance::list::List;
use crate::balance::route::{
    Decision, Facts, PickReason, Plan, RefusalReason, decide, lift_trials,
};
use crate::base::random::SplitMix64;
use crate::base::time::{WallTime, nanos};
use crate::cluster::clients::{ClientStreams, Counted};
use crate::cluster::load::Load;
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::Metric;
use crate::gates::buckets::Buckets;
use crate::gates::view::GatesView;
use crate::json_rpc::{Asked, Fault};

/// So often a decision is made whose token or trial other workers take before; then it needs none. A loop
/// must end: there is no fuel in the VM.
pub const TOKEN_TRIES_MAX: u32 = 16;

/// What the questions about a response depend on.
pub struct Awaited<'a> {
    /// The first address of the list.
    pub first: &'a str,
    /// The cluster: what it weighs, and which answers say something.
    pub cluster: &'a Cluster,
}

/// One stream, and its place among those of its client. It may outlive its configuration by hours.
#[derive(Default)]
pub struct Stream(Stage, Option<Counted>);

/// How far a stream is.
#[derive(Default)]
enum Stage {
    /// Not picked, or over.
    #[default]
    Idle,
    /// Its body is read before it is picked. No endpoint is charged with that time.
    Held(Box<Held>),
    /// Answered here.
    Answered,
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
    /// The backend that they name merely has no room.
    keeps_cookie: bool,
    /// What each attempt costs, tokens.
    cost: u32,
    picked_at: WallTime,
    /// When all of the request was here: from then on only the backend's time counts.
    whole_at: Option<WallTime>,
    /// Some entry had something counted against it: its success is news.
    had_counts: bool,
    /// Where the module stands upstream as well.
    trail: Option<Rc<Trail>>,
}

impl Stream {
    /// Holds a request, as one of its client's; `Some`: it is answered here, that one has too many.
    pub fn hold(
        &mut self,
        cluster: &Rc<Cluster>,
        client: Option<&Rc<ClientStreams>>,
    ) -> Option<Step> {
        let rules = cluster.json_rpc.as_ref()?;
        if let Some(step) = too_many(cluster, client) {
            self.0 = Stage::Answered;
            return Some(step);
        }
        self.1 = client.map(Counted::one);
        self.0 = Stage::Held(Box::new(Held::new(cluster, rules)));
        None
    }

    /// The cluster of a stream that is held.
    pub fn held(&self) -> Option<&Rc<Cluster>> {
        match &self.0 {
            Stage::Held(held) => Some(&held.cluster),
            _ => None,
        }
    }

    /// Reads on in a held stream's body. `Some` once enough is known, as it is at its end.
    pub fn read(&mut self, bytes: &[u8], is_end: bool) -> Option<Result<Asked, Fault>> {
        let Stage::Held(held) = &mut self.0 else {
            return None;
        };
        let known = held.read(bytes, is_end);
        if matches!(known, Some(Err(_))) {
            self.0 = Stage::Answered;
        }
        known
    }

    /// It was held until its end, and nothing of its body came.
    pub fn missed_body(&self) -> Option<&Rc<Cluster>> {
        match &self.0 {
            Stage::Held(held) if !held.has_body => Some(&held.cluster),
            _ => None,
        }
    }

    /// It is answered here.
    pub fn answer(&mut self) {
        self.0 = Stage::Answered;
    }

    /// Whether it was answered here.
    pub fn is_answered(&self) -> bool {
        matches!(self.0, Stage::Answered)
    }

    /// Decides where a request goes, and charges the pick with it. `replace` is for records that the pick
    /// has changed; where another worker was faster, all is decided again. A token that was taken for a
    /// trial that others have begun is lost.
    pub fn arrive(
        &mut self,
        arrival: &Arrival,
        rng: &mut SplitMix64,
        replace: &mut Replace<'_>,
    ) -> Step {
        let cluster = &arrival.cluster;
        if let Some(step) = too_many(cluster, arrival.client.as_ref()) {
            self.0 = Stage::Answered;
            return step;
        }
        let no_key = || cluster.key_source.as_ref().map_or(0, |_| rng.draw());
        let key = arrival.key.unwrap_or_else(no_key);
        let mut is_read = arrival.buckets_version.is_some();
        let seen = cluster.buckets_seen.borrow().clone().filter(|_| !is_read);
        let buckets = seen.as_deref().unwrap_or(&arrival.buckets);
        let mut buckets = Cow::Borrowed(&buckets[..]);
        let mut blob = Cow::Borrowed(&arrival.gates[..]);
        let mut tries: u32 = 0;
        loop {
            let gates = &GatesView::read(cluster, &blob);
            let facts = Facts {
                cluster,
                gates,
                buckets: Buckets::read(&buckets, arrival.now).at_cost(arrival.cost),
                cookies: &arrival.cookies,
                key,
                now: arrival.now,
            };
            let mut decision = decide(&facts, rng);
            lift_trials(&mut decision, &facts, rng);
            if !is_read && !tokens::suffice(&decision, &facts) {
                is_read = true;
                buckets = Cow::Owned(replace(Record::Buckets, &[]).unwrap_or_default());
                continue;
            }
            let plan = match &mut decision {
                Decision::Forward(plan) => plan,
                Decision::Refuse {
                    reason,
                    retry_after_ns,
                } => return self.refuse(*reason, *retry_after_ns),
            };
            if let Some(newer) = tokens::take(plan, &facts, arrival.workers, replace) {
                tries = tries.saturating_add(1);
                if tries < TOKEN_TRIES_MAX {
                    buckets = Cow::Owned(newer);
                    continue;
                }
                plan.unpaid = true;
            }
            if let Some(record) = plan.begin_trial(&facts, &blob) {
                if let Some(newer) = replace(Record::Gates, &record) {
                    tries = tries.saturating_add(1);
                    if tries < TOKEN_TRIES_MAX {
                        blob = Cow::Owned(newer);
                        continue;
                    }
                } else {
                    plan.trial = true;
                }
            }
            return self.pick(arrival, plan, &facts);
        }
    }

    fn refuse(&mut self, reason: RefusalReason, retry_after_ns: Option<u64>) -> Step {
        self.0 = Stage::Answered;
        Step::Refuse {
            reason,
            retry_after_ns,
        }
    }

    fn pick(&mut self, arrival: &Arrival, plan: &Plan, facts: &Facts<'_>) -> Step {
        plan.commit(facts);
        self.0 = Stage::pick(arrival, plan, facts.gates);
        let counted = || arrival.client.as_ref().map(Counted::one);
        self.1 = self.1.take().or_else(counted);
        let fails_open = plan.reason == PickReason::FailOpen && !facts.gates.fail_open();
        Step::Forward {
            plan: *plan,
            fails_open,
        }
    }

    /// What is shared with the module's role upstream, where it has one.
    pub fn trail(&self) -> Option<&Rc<Trail>> {
        match &self.0 {
            Stage::Picked(picked) => picked.trail.as_ref(),
            _ => None,
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
            cluster: &picked.cluster,
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
            if !picked.keeps_cookie {
                effects.set_cookie = cookie::set_cookie(&picked.cluster, served, &picked.cookies);
            }
            let measured = picked.measurement(&endpoint.load, answer);
            effects.measurement = effects.measurement.or(measured);
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
        self.1 = None;
        if let Stage::Served(load) = &self.0 {
            load.end();
            self.0 = Stage::Idle;
        }
        let picked = self.take_picked()?;
        picked.load.end();
        if let (None, Some(trail)) = (answer, &picked.trail) {
            trail.close();
        }
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

fn too_many(cluster: &Cluster, client: Option<&Rc<ClientStreams>>) -> Option<Step> {
    client.filter(|client| client.has_no_room())?;
    Some(Step::Refuse {
        reason: RefusalReason::TooManyStreams,
        retry_after_ns: Some(nanos(cluster.limits.retry_after)).filter(|ns| *ns > 0),
    })
}

impl Stage {
    fn pick(arrival: &Arrival, plan: &Plan, gates: &GatesView<'_>) -> Self {
        let cluster = &arrival.cluster;
        let Some(first) = plan.list.first().and_then(|first| cluster.endpoint(first)) else {
            return Stage::Idle;
        };
        first.load.begin();
        let has_counts = |e: &EndpointIndex| gates.has_counts(*e);
        let had_counts = plan.list.entries().iter().any(has_counts);
        let trail = || Rc::new(Trail::new(cluster, plan.list, arrival.now, had_counts));
        Stage::Picked(Box::new(Picked {
            cluster: cluster.clone(),
            list: plan.list,
            load: first.load.clone(),
            cookies: arrival.cookies.clone(),
            keeps_cookie: plan.keeps_cookie,
            cost: arrival.cost,
            picked_at: arrival.now,
            whole_at: arrival.whole.then_some(arrival.now),
            had_counts,
            trail: cluster.retry.upstream.then(trail),
        }))
    }
}

impl Picked {
    fn effects(&self, answer: &Answer) -> Effects {
        let cluster = &self.cluster;
        let mut outcome = judge(cluster, &self.list, !cluster.retry.upstream, answer);
        if let Some(trail) = &self.trail {
            outcome.settle(trail.close(), answer.ending);
        }
        let pick = (self.picked_at, self.had_counts);
        Effects::new(cluster, outcome, pick, self.cost)
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
        let says_nothing = answer.status.is_some() && !self.cluster.has_averages();
        if !metric.is_time() || answer.attempts != 1 || says_nothing {
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
