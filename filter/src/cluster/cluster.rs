//! A cluster, compiled: everything a pick needs, laid out once per configuration so that no pick
//! allocates or searches.

use std::rc::Rc;

use crate::base::hash;
use crate::base::keyed::{self, KeyMap};
use crate::base::keys;
use crate::cluster::load::{Load, Loads};
use crate::cluster::pool::Group;
use crate::cluster::retry::RetryHeaders;
use crate::config::{
    Backoff, ClusterConfig, LoadBalancing, Refusal, State, Sticky, WhenAllUnhealthy,
};
use crate::gates::standing::View;

/// A backend of the registry.
#[derive(Debug)]
pub struct Backend {
    /// Its id, for logs.
    pub id: Box<str>,
    /// [`hash::backend_key`].
    pub key: u64,
    /// The endpoint it stands for.
    pub endpoint: u32,
    /// Takes new requests, as far as the registry is concerned.
    pub normal: bool,
    /// Serves only when no primary can.
    pub backup: bool,
    /// Its share.
    pub weight: u16,
    /// What its sticky cookie says; empty where the cluster is not sticky.
    pub sticky_value: Box<str>,
}

/// An address of a cluster: one share of the traffic, however many ids it has (LB-18).
#[derive(Debug)]
pub struct Endpoint {
    /// `ip:port` as Envoy spells it.
    pub address: Box<str>,
    /// The weight of its heaviest backend in its tier.
    pub weight: u16,
    /// The backend that a pick of it means: the heaviest in its tier, the earliest of equals.
    pub backend: u32,
    /// No backend of it is a primary.
    pub backup: bool,
    /// Some backend of it takes requests.
    pub normal: bool,
    /// Its load on this worker.
    pub load: Rc<Load>,
}

/// A cluster as one configuration describes it, with the state that outlives configurations.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Box<str>,
    /// [`hash::cluster_key`] of the name.
    pub key: u64,
    /// Where its gates stand in shared data.
    pub gates_key: Box<str>,
    /// Policy and metric.
    pub balancing: LoadBalancing,
    /// The headers that make Envoy retry.
    pub retry: RetryHeaders,
    /// How long failures gate.
    pub backoff: Backoff,
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
    /// Endpoints that take requests and are no backups.
    pub primaries: Group,
    /// Endpoints that take requests and are backups.
    pub backups: Group,
    /// Both, for fail-open.
    pub all: Group,
    /// (backend key, index), sorted, for gates.
    by_key: Vec<(u64, u32)>,
    /// (hash of the sticky value, index), sorted, for cookies.
    by_sticky_value: Vec<(u64, u32)>,
    pub(crate) view: View,
}

impl Cluster {
    /// Compiles a document; loads that exist already are kept.
    pub fn compile(config: &ClusterConfig, loads: &mut Loads, now_ns: u64, seed: u32) -> Self {
        let key = hash::cluster_key(config.name.as_bytes());
        let (backends, endpoints) = lay_out(config, loads, key, now_ns);
        let mut by_key: Vec<(u64, u32)> = (0..).zip(&backends).map(|(i, b)| (b.key, i)).collect();
        keyed::sort(&mut by_key);
        let sticky_key = |backend: &Backend| hash::text_key(backend.sticky_value.as_bytes());
        let mut by_sticky_value: Vec<(u64, u32)> = match config.sticky {
            Some(_) => (0..)
                .zip(&backends)
                .map(|(i, b)| (sticky_key(b), i))
                .collect(),
            None => Vec::new(),
        };
        keyed::sort(&mut by_sticky_value);
        let members = |wanted: &dyn Fn(&Endpoint) -> bool| {
            Group::new(
                &endpoints,
                |endpoint| endpoint.normal && wanted(endpoint),
                seed,
            )
        };
        Cluster {
            name: config.name.as_str().into(),
            key,
            gates_key: keys::gates(key).into(),
            balancing: config.load_balancing,
            retry: RetryHeaders::new(&config.retry),
            backoff: config.backoff,
            when_all_unhealthy: config.when_all_unhealthy,
            sticky: config.sticky.clone(),
            refusal: config.refusal.clone(),
            primaries: members(&|endpoint| !endpoint.backup),
            backups: members(&|endpoint| endpoint.backup),
            all: members(&|_| true),
            backends,
            endpoints,
            by_key,
            by_sticky_value,
            view: View::default(),
        }
    }

    /// The endpoint at an index that one of our own lists holds.
    pub fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.endpoints.get(index))
    }

    /// The backend at an index that one of our own lists holds.
    pub fn backend(&self, index: u32) -> Option<&Backend> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.backends.get(index))
    }

    /// The backend with an identity, with its index.
    pub fn backend_by_key(&self, key: u64) -> Option<&Backend> {
        let place = self
            .by_key
            .binary_search_by_key(&key, |(key, _)| *key)
            .ok()?;
        self.by_key
            .get(place)
            .and_then(|(_, index)| self.backend(*index))
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
            .filter_map(|(_, index)| self.backend(*index))
            .filter(move |backend| backend.sticky_value.as_bytes() == value)
    }

    /// The identities of all backends at an endpoint.
    pub fn keys_at(&self, endpoint: u32) -> impl Iterator<Item = u64> {
        // Most endpoints have one backend; a scan of the rest is for failures only, which are rare.
        self.backends
            .iter()
            .filter(move |b| b.endpoint == endpoint)
            .map(|b| b.key)
    }

    /// Where an address stands among the endpoints; for failures and other rare questions.
    pub fn endpoint_at(&self, address: &[u8]) -> Option<u32> {
        let place = self
            .endpoints
            .iter()
            .position(|e| e.address.as_bytes() == address)?;
        u32::try_from(place).ok()
    }
}

/// The backends in the registry's order, and an endpoint for each distinct address of theirs.
fn lay_out(
    config: &ClusterConfig,
    loads: &mut Loads,
    key: u64,
    now_ns: u64,
) -> (Vec<Backend>, Vec<Endpoint>) {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut places: KeyMap<u32> = KeyMap::default();
    let mut backends = Vec::with_capacity(config.backends.len());
    for backend in &config.backends {
        let index = u32::try_from(backends.len()).unwrap_or(u32::MAX);
        let address = backend.address.to_string();
        let load_key = hash::load_key(key, &address);
        let endpoint = *places.entry(load_key).or_insert_with(|| {
            endpoints.push(Endpoint {
                load: loads.of(load_key, now_ns),
                address: address.as_str().into(),
                weight: 0,
                backend: index,
                backup: true,
                normal: false,
            });
            u32::try_from(endpoints.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let sticky_value = config.sticky.as_ref().map(|_| backend.sticky_value());
        let compiled = Backend {
            id: backend.id.as_str().into(),
            key: hash::backend_key(&backend.id, &address),
            endpoint,
            normal: backend.state == State::Normal,
            backup: backend.backup,
            weight: backend.weight,
            sticky_value: sticky_value.unwrap_or_default().into(),
        };
        if let Some(endpoint) = usize::try_from(endpoint)
            .ok()
            .and_then(|e| endpoints.get_mut(e))
        {
            endpoint.take_in(&compiled, index);
        }
        backends.push(compiled);
    }
    (backends, endpoints)
}

impl Endpoint {
    /// Takes in one more backend at this address: those that take requests stand for it, primaries
    /// before backups, the heaviest first, the earliest of equals.
    fn take_in(&mut self, backend: &Backend, index: u32) {
        if !backend.normal {
            return;
        }
        let better = !self.normal
            || (self.backup && !backend.backup)
            || (self.backup == backend.backup && backend.weight > self.weight);
        if better {
            self.weight = backend.weight;
            self.backend = index;
        }
        self.backup = (self.backup || !self.normal) && backend.backup;
        self.normal = true;
    }
}
