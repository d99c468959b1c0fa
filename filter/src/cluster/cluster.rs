//! A cluster, compiled: everything a pick needs, laid out once per configuration so that no pick
//! allocates or searches.

use super::endpoint::{Backend, BackendIndex, Endpoint, EndpointIndex, lay_out};
use super::load::Loads;
use super::retry::RetryHeaders;
use super::tier::{Rank, Tier};
use crate::base::hash::{self, BackendKey, ClusterKey};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::config::{
    Backoff, ClusterConfig, Cooldown, LoadBalancing, Refusal, Sticky, WhenAllUnhealthy,
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
    /// Policy and metric.
    pub balancing: LoadBalancing,
    /// The headers that make Envoy retry.
    pub retry: RetryHeaders,
    /// How long failures gate.
    pub backoff: Backoff,
    /// Which answers cool a backend down, and for how long.
    pub cooldown: Option<Cooldown>,
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
        let tier = |rank, wanted: &dyn Fn(&Endpoint) -> bool| {
            let policy = config.load_balancing.policy;
            let takes = |endpoint: &Endpoint| endpoint.normal && wanted(endpoint);
            Tier::new(rank, policy, &endpoints, takes, seed)
        };
        Cluster {
            name: config.name.as_str().into(),
            key,
            gates_key: keys::gates(key).into(),
            balancing: config.load_balancing,
            retry: RetryHeaders::new(&config.retry),
            backoff: config.backoff,
            cooldown: config.passive.cooldown.clone(),
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
