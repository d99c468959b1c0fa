//! A cluster, compiled: everything a pick needs, laid out once per configuration so that no pick
//! allocates or searches.

use std::cell::RefCell;
use std::rc::Rc;

use super::averages;
use super::endpoint::{Backend, BackendIndex, Endpoint, EndpointIndex, lay_out};
use super::load::Loads;
use super::quota::Quota;
use super::ramp::Ramp;
use super::retry::RetryHeaders;
use super::shards::Shards;
use super::tier::{Rank, Tier};
use crate::base::hash::{self, BackendKey, ClusterKey};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::config::{
    Affinity, Backoff, ClusterConfig, Code, JsonRpc, Limits, LoadBalancing, Metric, Passive,
    Policy, Refusal, Sticky, WhenAllUnhealthy,
};

/// A cluster as one configuration describes it, with the state that outlives configurations.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Box<str>,
    /// [`hash::cluster_key`] of the name.
    pub key: ClusterKey,
    /// Where its gates stand in shared data.
    pub gates_key: Box<str>,
    /// Where the buckets of its limited endpoints stand in shared data; `None`: no endpoint has a rate limit.
    pub buckets_key: Option<Box<str>>,
    /// Its buckets as this worker saw them last, while it has taken tokens in advance.
    pub buckets_seen: RefCell<Option<Rc<Vec<u8>>>>,
    /// Some endpoint has a limit.
    pub has_limits: bool,
    /// Most tokens that an endpoint that takes requests ever has at once; `None`: one has no rate limit, or
    /// there is none.
    pub burst_max: Option<u32>,
    /// What the cluster and each client are given at most.
    pub limits: Limits,
    /// How bodies are read; `None`: they are not.
    pub json_rpc: Option<JsonRpc>,
    /// Policy and metric.
    pub balancing: LoadBalancing,
    /// How the weight of those grows that come, or come back; `None`: at once.
    pub ramp: Option<Ramp>,
    /// When the last of its endpoints came.
    newest: WallTime,
    /// Where a request's key stands; `None` where nothing depends on it.
    pub key_source: Option<Affinity>,
    /// The shards of its primaries, where it has some.
    pub shards: Option<Shards>,
    /// The headers that make Envoy retry.
    pub retry: RetryHeaders,
    /// How long failures gate.
    pub backoff: Backoff,
    /// What attempts hold against backends.
    pub passive: Passive,
    /// Fail open or refuse.
    pub when_all_unhealthy: WhenAllUnhealthy,
    /// The cookie, if the cluster is sticky.
    pub sticky: Option<Sticky>,
    /// The cluster's own 503.
    pub refusal: Option<Refusal>,
    /// In the registry's order.
    pub backends: Vec<Backend>,
    /// Distinct addresses, in the order of their first backend.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that take requests, by rank: in this order they are tried.
    pub tiers: [Tier; 2],
    /// All that take requests as one, for fail-open.
    pub all: Tier,
    /// (backend key, place), sorted, for gates.
    by_key: Vec<(u64, u32)>,
    /// (hash of the sticky value, place), sorted, for cookies.
    by_sticky_value: Vec<(u64, u32)>,
}

impl Cluster {
    /// Compiles a document; loads that exist already are kept.
    pub fn compile(config: &ClusterConfig, loads: &mut Loads, now: WallTime, seed: u32) -> Self {
        let key = hash::cluster_key(config.name.as_bytes());
        let (backends, endpoints) = lay_out(config, loads, key, now);
        let mut by_key: Vec<(u64, u32)> = (0..).zip(&backends).map(|(i, b)| (b.key.0, i)).collect();
        hash::sort(&mut by_key);
        let sticky_key = |backend: &Backend| hash::text_key(backend.sticky_value.as_bytes());
        let mut by_sticky_value: Vec<(u64, u32)> = match config.sticky {
            Some(_) => (0..)
                .zip(&backends)
                .map(|(i, b)| (sticky_key(b), i))
                .collect(),
            None => Vec::new(),
        };
        hash::sort(&mut by_sticky_value);
        let mut balancing = config.load_balancing.clone();
        if balancing.policy == Policy::Tiered {
            balancing.metric = Metric::Latency;
        }
        let has_rates = endpoints.iter().any(|it| it.quota.is_some());
        let tier = |rank, wanted: &dyn Fn(&Endpoint) -> bool| {
            let policy = config.load_balancing.policy;
            let takes = |endpoint: &Endpoint| endpoint.normal && wanted(endpoint);
            Tier::new(rank, policy, &endpoints, &takes, seed)
        };
        Cluster {
            name: config.name.as_str().into(),
            key,
            gates_key: keys::gates(key).into(),
            buckets_key: has_rates.then(|| keys::buckets(key).into()),
            buckets_seen: RefCell::default(),
            has_limits: has_rates || endpoints.iter().any(|it| it.max_in_flight > 0),
            burst_max: burst_max(&endpoints),
            limits: config.limits,
            json_rpc: config.json_rpc.clone(),
            ramp: config.load_balancing.slow_start.map(Ramp::new),
            newest: endpoints
                .iter()
                .map(|it| it.load.known_since)
                .max()
                .unwrap_or_default(),
            key_source: config.load_balancing.key_source(),
            shards: Shards::of(&config.load_balancing, &backends, &endpoints, seed),
            balancing,
            retry: RetryHeaders::new(&config.retry),
            backoff: config.backoff,
            passive: config.passive.clone(),
            when_all_unhealthy: config.when_all_unhealthy,
            sticky: config.sticky.clone(),
            refusal: config.refusal.clone(),
            tiers: [
                tier(Rank::Primary, &|endpoint| !endpoint.backup),
                tier(Rank::Backup, &|endpoint| endpoint.backup),
            ],
            all: tier(Rank::Primary, &|_| true),
            backends,
            endpoints,
            by_key,
            by_sticky_value,
        }
    }

    /// The endpoint at an index that one of our own lists holds.
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(index.place())
    }

    /// Tokens that this worker has taken in advance, by their quotas.
    pub fn tokens_ahead(&self) -> impl Iterator<Item = (&Quota, u32)> {
        let quotas = self.endpoints.iter().filter_map(|it| it.quota.as_deref());
        let ahead = quotas.map(|quota| (quota, quota.ahead.get()));
        ahead.filter(|(_, count)| *count > 0)
    }

    /// Forgets them, and what was seen of the buckets.
    pub fn forget_tokens(&self) {
        self.tokens_ahead()
            .for_each(|(quota, _)| quota.ahead.set(0));
        self.buckets_seen.replace(None);
    }

    /// Whether a pick depends on the time, while this is held against the cluster's endpoints. Where nothing
    /// is, every failure that is counted later is counted after the pick, whenever that was.
    pub fn asks_the_time(&self, gates: &[u8]) -> bool {
        !gates.is_empty()
            || self.buckets_key.is_some()
            || self.ramp.is_some()
            || self.balancing.metric.is_time()
    }

    /// Whether times and failures are averaged, whatever they are for gates (LB-15).
    pub fn has_averages(&self) -> bool {
        self.balancing.policy == Policy::Tiered
    }

    /// Whether any answer can say something against its backend.
    pub fn reads_answers(&self) -> bool {
        self.has_averages() || self.passive.reads_answers()
    }

    /// Whether a gRPC status can.
    pub fn reads_grpc(&self) -> bool {
        self.has_averages() || self.passive.reads_grpc()
    }

    /// Whether an answer with this code does.
    pub fn is_telling(&self, code: Code) -> bool {
        self.passive.fails(code)
            || self.passive.cools(code)
            || self.has_averages() && averages::penalty_ns(code) > 0
    }

    /// The ramp while somebody may be on it: one who has just come or, where something is held against
    /// anybody, come back.
    pub fn ramp_now(&self, nobody_is_gated: bool, now: WallTime) -> Option<Ramp> {
        let ramp = self.ramp?;
        let is_over = nobody_is_gated && ramp.is_over(self.newest, now);
        (!is_over).then_some(ramp)
    }

    /// The shard of a key; `None` where the cluster has no shards.
    pub fn shard(&self, key: u64) -> Option<&Tier> {
        self.shards.as_ref()?.tier(key, &self.endpoints)
    }

    /// The backend at an index that one of our own lists holds.
    pub fn backend(&self, index: BackendIndex) -> Option<&Backend> {
        self.backends.get(index.place())
    }

    /// The backend at a place that one of our own tables holds.
    fn backend_at(&self, place: u32) -> Option<&Backend> {
        self.backends.get(usize::try_from(place).ok()?)
    }

    /// The backend with an identity, with its index.
    pub fn backend_by_key(&self, key: BackendKey) -> Option<&Backend> {
        let place = self
            .by_key
            .binary_search_by_key(&key.0, |(key, _)| *key)
            .ok()?;
        self.by_key
            .get(place)
            .and_then(|(_, place)| self.backend_at(*place))
    }

    /// The backends whose sticky cookie says `value`, in the registry's order.
    pub fn backends_by_sticky_value<'a>(
        &'a self,
        value: &'a [u8],
    ) -> impl Iterator<Item = &'a Backend> {
        let key = hash::text_key(value);
        let start = self.by_sticky_value.partition_point(|(k, _)| *k < key);
        let from = self.by_sticky_value.get(start..).unwrap_or_default();
        from.iter()
            .take_while(move |(k, _)| *k == key)
            .filter_map(|(_, place)| self.backend_at(*place))
            .filter(move |backend| backend.sticky_value.as_bytes() == value)
    }

    /// The identities of all backends at an endpoint, in the registry's order.
    pub fn keys_at(&self, endpoint: EndpointIndex) -> impl Iterator<Item = BackendKey> {
        let first = self.endpoint(endpoint).and_then(|e| self.backend(e.first));
        std::iter::successors(first, |backend| self.backend(backend.next)).map(|b| b.key)
    }
}

fn burst_max(endpoints: &[Endpoint]) -> Option<u32> {
    let takers = endpoints.iter().filter(|endpoint| endpoint.normal);
    let bursts = takers.map(|endpoint| Some(endpoint.quota.as_ref()?.limit.burst));
    bursts.collect::<Option<Vec<u32>>>()?.into_iter().max()
}
