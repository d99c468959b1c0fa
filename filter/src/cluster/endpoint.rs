//! The backends of a cluster, and the addresses at which they can be reached.

use std::rc::Rc;

use super::load::{Load, Loads};
use super::quota::Quota;
use crate::base::hash::{self, BackendKey, ClusterKey, KeyMap};
use crate::base::time::WallTime;
use crate::config::{BackendConfig, ClusterConfig, RateLimit, State};

/// Which endpoint of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EndpointIndex(u32);

/// Which backend of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendIndex(u32);

impl EndpointIndex {
    /// Which no cluster has.
    pub const NONE: EndpointIndex = EndpointIndex(u32::MAX);

    /// The one at a place of the cluster's list.
    pub fn of(place: usize) -> Self {
        EndpointIndex(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// Its place in the cluster's list.
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl BackendIndex {
    /// Which no cluster has.
    pub const NONE: BackendIndex = BackendIndex(u32::MAX);

    /// The one at a place of the cluster's list.
    pub fn of(place: usize) -> Self {
        BackendIndex(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// Its place in the cluster's list.
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A backend of the registry.
#[derive(Debug)]
pub struct Backend {
    /// Its id, for logs.
    pub id: Box<str>,
    /// [`hash::backend_key`].
    pub key: BackendKey,
    /// The endpoint it stands for.
    pub endpoint: EndpointIndex,
    /// Whether it takes new requests, as far as the registry is concerned.
    pub state: State,
    /// Serves only when no primary can.
    pub backup: bool,
    /// Its share.
    pub weight: u16,
    /// What its sticky cookie says; empty where the cluster is not sticky.
    pub sticky_value: Box<str>,
    /// The next backend at its endpoint; [`BackendIndex::NONE`] for the last.
    pub(super) next: BackendIndex,
}

impl Backend {
    /// Whether it takes new requests, as far as the registry is concerned.
    pub fn is_normal(&self) -> bool {
        self.state == State::Normal
    }
}

/// An address of a cluster: one share of the traffic, however many ids it has (LB-18).
#[derive(Debug)]
pub struct Endpoint {
    /// `ip:port` as Envoy spells it.
    pub address: Box<str>,
    /// The weight of its heaviest backend in its tier.
    pub weight: u16,
    /// The backend that a pick of it means: the heaviest in its tier, the earliest of equals.
    pub backend: BackendIndex,
    /// No backend of it is a primary.
    pub backup: bool,
    /// Some backend of it takes requests.
    pub normal: bool,
    /// Its load on this worker.
    pub load: Rc<Load>,
    /// How often it may be asked. Of ids that share an address the strictest limit counts.
    pub quota: Option<Box<Quota>>,
    /// Requests at a time, on all workers; 0: any number.
    pub max_in_flight: u32,
    /// The first backend at it.
    pub(super) first: BackendIndex,
}

/// The backends in the registry's order, and an endpoint for each distinct address of theirs.
pub(super) fn lay_out(
    config: &ClusterConfig,
    loads: &mut Loads,
    key: ClusterKey,
    now: WallTime,
) -> (Vec<Backend>, Vec<Endpoint>) {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut places: KeyMap<EndpointIndex> = KeyMap::default();
    let mut backends = Vec::with_capacity(config.backends.len());
    let averaging = config.load_balancing.averages();
    for backend in &config.backends {
        let index = BackendIndex::of(backends.len());
        let address = backend.address.to_string();
        let load_key = hash::load_key(key, &address);
        let endpoint = *places.entry(load_key.0).or_insert_with(|| {
            let load = loads.of(load_key, now);
            load.ranking.configure(averaging, now);
            endpoints.push(Endpoint {
                load,
                address: address.as_str().into(),
                weight: 0,
                backend: index,
                backup: true,
                normal: false,
                quota: None,
                max_in_flight: 0,
                first: BackendIndex::NONE,
            });
            EndpointIndex::of(endpoints.len().saturating_sub(1))
        });
        let sticky_value = config.sticky.as_ref().map(|_| backend.sticky_value());
        let state = match (backend.state, backend.weight) {
            // A drain, to Tiered (LB-16).
            (State::Normal, 0) if averaging.is_some() => State::Draining,
            (state, _) => state,
        };
        let compiled = Backend {
            id: backend.id.as_str().into(),
            key: hash::backend_key(&backend.id, &address),
            endpoint,
            state,
            backup: backend.backup,
            weight: backend.weight,
            sticky_value: sticky_value.unwrap_or_default().into(),
            next: BackendIndex::NONE,
        };
        if let Some(endpoint) = endpoints.get_mut(endpoint.place()) {
            endpoint.take_in(&compiled, index);
            endpoint.limit(backend, config.rate_limit);
        }
        backends.push(compiled);
    }
    link(&mut backends, &mut endpoints);
    (backends, endpoints)
}

/// Chains the backends of each endpoint, so that whoever asks for them scans no others.
fn link(backends: &mut [Backend], endpoints: &mut [Endpoint]) {
    for (place, backend) in backends.iter_mut().enumerate().rev() {
        if let Some(endpoint) = endpoints.get_mut(backend.endpoint.place()) {
            backend.next = std::mem::replace(&mut endpoint.first, BackendIndex::of(place));
        }
    }
}

impl Endpoint {
    /// Takes in one more backend at this address: those that take requests stand for it, primaries
    /// before backups, the heaviest first, the earliest of equals.
    fn take_in(&mut self, backend: &Backend, index: BackendIndex) {
        if !backend.is_normal() {
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

    /// Takes the limits of one more backend at this address in; `of_all` is that of every backend without
    /// one of its own.
    fn limit(&mut self, backend: &BackendConfig, of_all: Option<RateLimit>) {
        let (rate, count) = (backend.rate_limit.or(of_all), backend.max_in_flight);
        if let Some(rate) = rate
            && self.quota.as_ref().is_none_or(|quota| rate < quota.limit)
        {
            self.quota = Some(Box::new(Quota::new(self.load.key, rate)));
        }
        if count > 0 && (self.max_in_flight == 0 || count < self.max_in_flight) {
            self.max_in_flight = count;
        }
    }
}
