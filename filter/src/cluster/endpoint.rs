//! The backends of a cluster, and the addresses at which they can be reached.

use std::rc::Rc;

use super::load::{Load, Loads};
use crate::base::hash::{self, KeyMap};
use crate::base::time::WallTime;
use crate::config::{ClusterConfig, State};

/// The index of no backend.
const NONE: u32 = u32::MAX;

/// A backend of the registry.
#[derive(Debug)]
pub struct Backend {
    /// Its id, for logs.
    pub id: Box<str>,
    /// [`hash::backend_key`].
    pub key: u64,
    /// The endpoint it stands for.
    pub endpoint: u32,
    /// Whether it takes new requests, as far as the registry is concerned.
    pub state: State,
    /// Serves only when no primary can.
    pub backup: bool,
    /// Its share.
    pub weight: u16,
    /// What its sticky cookie says; empty where the cluster is not sticky.
    pub sticky_value: Box<str>,
    /// The next backend at its endpoint; [`NONE`] for the last.
    pub(super) next: u32,
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
    pub backend: u32,
    /// No backend of it is a primary.
    pub backup: bool,
    /// Some backend of it takes requests.
    pub normal: bool,
    /// Its load on this worker.
    pub load: Rc<Load>,
    /// The first backend at it.
    pub(super) first: u32,
}

/// The backends in the registry's order, and an endpoint for each distinct address of theirs.
pub(super) fn lay_out(
    config: &ClusterConfig,
    loads: &mut Loads,
    key: u64,
    now: WallTime,
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
                load: loads.of(load_key, now),
                address: address.as_str().into(),
                weight: 0,
                backend: index,
                backup: true,
                normal: false,
                first: NONE,
            });
            u32::try_from(endpoints.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let sticky_value = config.sticky.as_ref().map(|_| backend.sticky_value());
        let compiled = Backend {
            id: backend.id.as_str().into(),
            key: hash::backend_key(&backend.id, &address),
            endpoint,
            state: backend.state,
            backup: backend.backup,
            weight: backend.weight,
            sticky_value: sticky_value.unwrap_or_default().into(),
            next: NONE,
        };
        if let Some(endpoint) = at_mut(&mut endpoints, endpoint) {
            endpoint.take_in(&compiled, index);
        }
        backends.push(compiled);
    }
    link(&mut backends, &mut endpoints);
    (backends, endpoints)
}

/// Chains the backends of each endpoint, so that whoever asks for them scans no others.
fn link(backends: &mut [Backend], endpoints: &mut [Endpoint]) {
    let count = u32::try_from(backends.len()).unwrap_or(NONE);
    for (index, backend) in (0..count).zip(backends).rev() {
        if let Some(endpoint) = at_mut(endpoints, backend.endpoint) {
            backend.next = std::mem::replace(&mut endpoint.first, index);
        }
    }
}

fn at_mut(endpoints: &mut [Endpoint], index: u32) -> Option<&mut Endpoint> {
    endpoints.get_mut(usize::try_from(index).ok()?)
}

impl Endpoint {
    /// Takes in one more backend at this address: those that take requests stand for it, primaries
    /// before backups, the heaviest first, the earliest of equals.
    fn take_in(&mut self, backend: &Backend, index: u32) {
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
}
