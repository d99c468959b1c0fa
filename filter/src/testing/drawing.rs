//! Clusters drawn in one line of text, for the tests of rules.
//!
//! `a:w5 b:backup,cooling c@a` is backend `a` with weight 5, backend `b` that is a backup inside its
//! back-off window, and backend `c` at the address of `a`. An address follows from its letter alone,
//! so a backend keeps it when the drawing around it changes. Marks of a backend:
//! `wN` weight · `backup` · `draining` · `cordoned` · `unhealthy` · `cooling`, `coolingN` inside a
//! window that ends in half a second, in N seconds · `waited` failed once, window over · `down` all
//! tries failed, window over · `trial` another request tries it, for half a second more · `limited` inside a cooldown that ends in half a second · `busyN` N streams in flight · `says=X` sticky id
//! · `backN` healthy again for N seconds · `rateN/B` N requests per second, B at once · `spent` no token is left · `maxN` N streams at most.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use crate::balance::route::{Decision, Facts, route};
use crate::base::hash::BackendKey;
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::load::{Load, Loads};
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::{
    BackendConfig, ClusterConfig, Code, Cooldown, Metric, Policy, SlowStart, WhenAllUnhealthy,
};
use crate::gates::buckets::Buckets;
use crate::gates::event::Event;
use crate::gates::evidence::{Evidence, Met, Status};
use crate::gates::transition::GateChange;
use crate::gates::view::GatesView;
use crate::gates::{Gate, Gates};
use crate::stream::Arrival;
use crate::testing::marks::backend_of;
use crate::testing::shares::Shares;

pub const SECOND: u64 = 1_000_000_000;
/// When every drawing begins, wall clock.
pub const NOW: WallTime = WallTime::from_ns(1_000_000 * SECOND);

/// A cluster with everything a rule may depend on.
pub struct Drawing {
    pub config: ClusterConfig,
    pub cluster: Rc<Cluster>,
    pub gates: Gates,
    /// The record of its buckets.
    pub buckets: Vec<u8>,
    pub loads: Loads,
    pub rng: SplitMix64,
    pub now: WallTime,
    /// What the client's sticky cookies say.
    pub cookies: Vec<Vec<u8>>,
    /// The key of the next request.
    pub key: u64,
}

impl Drawing {
    pub fn new(text: &str) -> Self {
        let document = json!({"name": "orders", "backends": []});
        let config = ClusterConfig::parse(&document).unwrap();
        let mut loads = Loads::default();
        let mut drawing = Drawing {
            cluster: Rc::new(Cluster::compile(&config, &mut loads, NOW, 0)),
            config,
            gates: Gates::default(),
            buckets: Vec::new(),
            loads,
            rng: SplitMix64::new(7),
            now: NOW,
            cookies: Vec::new(),
            key: 0,
        };
        drawing.redraw(text);
        drawing.loads.come_new = true;
        drawing
    }

    /// Weights of those that come, or come back, grow for so many seconds, from ten percent on.
    pub fn slow_start(self, seconds: u64) -> Self {
        self.edit(|config| {
            config.load_balancing.slow_start = Some(SlowStart {
                window: Duration::from_secs(seconds),
                ..SlowStart::default()
            });
        })
    }

    pub fn policy(self, policy: Policy) -> Self {
        self.edit(|config| config.load_balancing.policy = policy)
    }

    pub fn metric(self, metric: Metric) -> Self {
        self.edit(|config| config.load_balancing.metric = metric)
    }

    pub fn attempts(self, attempts: u32) -> Self {
        self.edit(|config| config.retry.attempts = attempts)
    }

    pub fn refusing(self) -> Self {
        self.edit(|config| config.when_all_unhealthy = WhenAllUnhealthy::Refuse)
    }

    /// Makes the cluster sticky, with a client that has one more cookie, which says `cookie`.
    pub fn cookie(self, cookie: &str) -> Self {
        let document = json!({"name": "x", "backends": [], "sticky": {"cookie": "P"}});
        let sticky = ClusterConfig::parse(&document).unwrap().sticky;
        let mut drawing = self.edit(|config| config.sticky = sticky);
        drawing.cookies.push(cookie.as_bytes().to_vec());
        drawing
    }

    /// A new configuration that differs by `change`; loads and gates stay, as in a worker.
    pub fn edit(mut self, change: impl FnOnce(&mut ClusterConfig)) -> Self {
        change(&mut self.config);
        self.compile();
        self
    }

    /// A new configuration with these backends; what is marked is marked, the rest stays.
    pub fn redraw(&mut self, text: &str) {
        self.config.backends = text.split_whitespace().map(backend_of).collect();
        self.compile();
        for word in text.split_whitespace() {
            for mark in word
                .split_once(':')
                .map_or("", |(_, marks)| marks)
                .split(',')
            {
                self.mark(&backend_of(word), mark);
            }
        }
    }

    fn compile(&mut self) {
        let cluster = Cluster::compile(&self.config, &mut self.loads, self.now, 0);
        self.cluster = Rc::new(cluster);
    }

    fn mark(&mut self, backend: &BackendConfig, mark: &str) {
        let now = self.now;
        let failed_at = WallTime::from_ns(now.ns() - SECOND / 2);
        let window = |tries: u8, left_ns: u64| {
            move |gate: &mut Gate| {
                (gate.tries, gate.failed_at, gate.until) = (tries, failed_at, now.plus(left_ns))
            }
        };
        let key = backend.key();
        match mark {
            "unhealthy" => self.gates.update(key, |gate| {
                gate.judge(true, WallTime::from_ns(now.ns() - SECOND));
            }),
            "cooling" => self.gates.update(key, window(1, SECOND / 2)),
            "waited" => self.gates.update(key, window(1, 0)),
            "trial" => self.gates.update(key, |gate| {
                window(1, SECOND / 2)(gate);
                gate.on_trial = true;
            }),
            "limited" => self.gates.update(key, |gate| {
                (gate.cooldowns, gate.cooled_at) = (1, failed_at);
                gate.cools_until = now.plus(SECOND / 2);
            }),
            "spent" => self.spend(&backend.id),
            "down" => self.gates.update(key, |gate| {
                window(6, 0)(gate);
                gate.down = true;
            }),
            _ => {}
        }
        if let Some(seconds) = mark
            .strip_prefix("cooling")
            .and_then(|n| n.parse::<u64>().ok())
        {
            self.gates.update(key, window(1, seconds * SECOND));
        }
        if let Some(seconds) = mark
            .strip_prefix("back")
            .and_then(|n| n.parse::<u64>().ok())
        {
            let at = WallTime::from_ns(now.ns() - seconds * SECOND);
            self.gates.update(key, |gate| gate.recovered_at = at);
        }
        if let Some(streams) = mark.strip_prefix("busy") {
            let streams: u32 = streams.parse().unwrap();
            (0..streams).for_each(|_| self.load(&backend.id).begin());
        }
    }

    /// Takes all tokens of a backend.
    pub fn spend(&mut self, id: &str) {
        let endpoint = self.cluster.endpoint(self.endpoint(id)).unwrap();
        let quota = endpoint.quota.as_deref().unwrap();
        while Buckets::read(&self.buckets, self.now).wait_ns(quota) == 0 {
            self.buckets = Buckets::read(&self.buckets, self.now).take(quota);
        }
    }

    pub fn endpoint(&self, id: &str) -> EndpointIndex {
        self.cluster
            .backends
            .iter()
            .find(|b| &*b.id == id)
            .unwrap()
            .endpoint
    }

    pub fn load(&self, id: &str) -> &Load {
        &self.cluster.endpoint(self.endpoint(id)).unwrap().load
    }

    pub fn key(&self, id: &str) -> BackendKey {
        self.cluster
            .backends
            .iter()
            .find(|b| &*b.id == id)
            .unwrap()
            .key
    }

    /// Failures that are counted against a backend.
    pub fn tries(&self, id: &str) -> u8 {
        self.gates.of(self.key(id)).map_or(0, |gate| gate.tries)
    }

    /// The id that stands for an endpoint.
    pub fn id(&self, endpoint: EndpointIndex) -> String {
        let endpoint = self.cluster.endpoint(endpoint).unwrap();
        self.cluster
            .backend(endpoint.backend)
            .unwrap()
            .id
            .to_string()
    }

    /// What the gates say.
    pub fn view(&self) -> GatesView<'_> {
        GatesView::new(&self.cluster, &self.gates)
    }

    /// What the decision on a request depends on.
    pub fn facts<'a>(&'a self, gates: &'a GatesView<'a>) -> Facts<'a> {
        Facts {
            cluster: &self.cluster,
            gates,
            buckets: Buckets::read(&self.buckets, self.now),
            cookies: &self.cookies,
            key: self.key,
            now: self.now,
        }
    }

    pub fn route(&mut self) -> Decision {
        let gates = self.view();
        let mut rng = self.rng.clone();
        let facts = self.facts(&gates);
        let decision = route(&facts, &mut rng);
        let mut taken = None;
        if let Decision::Forward(plan) = &decision {
            taken = plan.take_token(&facts);
            plan.commit(&facts);
        }
        self.rng = rng;
        self.buckets = taken.unwrap_or(std::mem::take(&mut self.buckets));
        decision
    }

    /// A request without a body that comes now.
    pub fn arrival(&self) -> Arrival {
        Arrival {
            cluster: self.cluster.clone(),
            gates: self.gates.encode(),
            gates_version: 0,
            buckets: self.buckets.clone(),
            buckets_version: self.cluster.buckets_seen.borrow().is_none().then_some(0),
            workers: 2,
            client: None,
            cookies: self.cookies.clone(),
            key: Some(self.key),
            key_missing: false,
            cost: 1,
            whole: true,
            now: self.now,
        }
    }

    /// The list of one request; empty when it is refused.
    pub fn list(&mut self) -> Vec<String> {
        match self.route() {
            Decision::Forward(plan) => plan.list.entries().iter().map(|e| self.id(*e)).collect(),
            Decision::Refuse { .. } => Vec::new(),
        }
    }

    /// The pick of one request; `-` when it is refused.
    pub fn pick(&mut self) -> String {
        self.list()
            .into_iter()
            .next()
            .unwrap_or_else(|| "-".to_owned())
    }

    pub fn picks(&mut self, requests: usize) -> Vec<String> {
        (0..requests).map(|_| self.pick()).collect()
    }

    /// How often each was picked.
    pub fn shares(&mut self, requests: usize) -> Shares {
        let mut shares = Shares::default();
        for pick in self.picks(requests) {
            shares.add(pick);
        }
        shares
    }

    /// The decision in words: `a b by Primary`, `b by Sticky alone`, `refuse NoBackends`.
    pub fn words(&mut self) -> String {
        match self.route() {
            Decision::Forward(plan) => {
                let ids: Vec<String> = plan.list.entries().iter().map(|e| self.id(*e)).collect();
                let alone = if plan.alone { " alone" } else { "" };
                let lost = if plan.sticky_lost { " lost" } else { "" };
                let deferred = if plan.deferred { " deferred" } else { "" };
                format!(
                    "{} by {:?}{alone}{lost}{deferred}",
                    ids.join(" "),
                    plan.reason
                )
            }
            Decision::Refuse { reason, .. } => format!("refuse {reason:?}"),
        }
    }

    /// Applies what a stream proved, picked and ended now unless `picked_at` says otherwise. `a`
    /// refused, `a?` was passed over.
    pub fn learn(&mut self, failed: &str, served: Option<&str>, picked_at: WallTime) -> String {
        let met = |id, what| Evidence::new(&self.cluster, self.endpoint(id), what);
        let failed = failed
            .split_whitespace()
            .map(|word| match word.strip_suffix('?') {
                Some(id) => met(id, Met::Unknown),
                None => met(word, Met::Connect),
            });
        let served = served.map(|id| met(id, Met::Served));
        let change = GateChange {
            evidence: failed.chain(served).collect(),
            picked_at,
            now: self.now,
        };
        names(&change.apply(&self.cluster, &mut self.gates, &mut self.rng))
    }

    /// Backends fail now; answers the events' names.
    pub fn fail(&mut self, failed: &str) -> String {
        self.learn(failed, None, self.now)
    }

    /// A request that was picked now is answered.
    pub fn serve(&mut self, id: &str) -> String {
        self.learn("", Some(id), self.now)
    }

    /// Answers of 429 cool backends down.
    pub fn cooldown(self, cooldown: Cooldown) -> Self {
        self.edit(|config| config.passive.cooldown = Some(cooldown))
    }

    /// A backend answers 429 now to a request that was picked then, and asks to be left alone.
    pub fn limit(&mut self, id: &str, asked_ns: Option<u64>, picked_at: WallTime) -> String {
        let code = Code::http(429);
        self.meet(id, Met::Status(Status { code, asked_ns }), picked_at)
    }

    /// An attempt at a backend meets this now, of a request that was picked then.
    pub fn meet(&mut self, id: &str, what: Met, picked_at: WallTime) -> String {
        let endpoint = self.endpoint(id);
        let change = GateChange {
            evidence: vec![Evidence::new(&self.cluster, endpoint, what)],
            picked_at,
            now: self.now,
        };
        names(&change.apply(&self.cluster, &mut self.gates, &mut self.rng))
    }

    /// The clock goes to the end of a backend's window.
    pub fn wait_for(&mut self, id: &str) {
        let gate = self.gates.of(self.key(id)).unwrap();
        self.now = gate.until.max(gate.cools_until);
    }
}

/// The events' names in order.
pub fn names(events: &[Event]) -> String {
    events
        .iter()
        .map(|event| event.name().name())
        .collect::<Vec<_>>()
        .join(" ")
}
