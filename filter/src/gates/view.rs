//! What the gates of a cluster say of its endpoints.

use super::gates::{Gate, Gates};
use super::standing::Standing;
use crate::base::hash;
use crate::base::time::WallTime;
use crate::cluster::Cluster;

/// What is held against one endpoint because of one of its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointGate {
    /// Index of the endpoint.
    pub endpoint: u32,
    /// Failures counted since the last success.
    pub tries: u8,
    unhealthy: bool,
    failed_at: WallTime,
    until: WallTime,
}

impl EndpointGate {
    /// The verdict.
    pub fn standing(&self, now: WallTime) -> Standing {
        let gate = Gate {
            key: 0,
            tries: self.tries,
            unhealthy: self.unhealthy,
            failed_at: self.failed_at,
            until: self.until,
        };
        match (gate.backs_off(now), self.unhealthy) {
            (true, _) => Standing::BackingOff,
            (false, true) => Standing::Unhealthy,
            (false, false) => Standing::Ready,
        }
    }
}

/// The gates of one cluster's endpoints, sorted by endpoint; those without one are ready. Where ids
/// share an address the worst counts (LB-18).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct GatesView {
    held: Vec<EndpointGate>,
    /// The latch of fail-open, as the gates had it.
    pub fail_open: bool,
}

impl GatesView {
    /// Looks up whom the gates speak of; gates of strangers are passed over.
    pub fn new(cluster: &Cluster, gates: &Gates) -> Self {
        let mut held: Vec<EndpointGate> = Vec::new();
        for gate in gates.iter() {
            let Some(backend) = cluster.backend_by_key(gate.key) else {
                continue;
            };
            held.push(EndpointGate {
                endpoint: backend.endpoint,
                tries: gate.tries,
                unhealthy: gate.unhealthy,
                failed_at: gate.failed_at,
                until: gate.until,
            });
        }
        // By endpoint, the most tries first.
        let place =
            |gate: &EndpointGate| (u64::from(gate.endpoint) << 8) | u64::from(u8::MAX ^ gate.tries);
        let mut order: Vec<(u64, u32)> = (0..)
            .zip(&held)
            .map(|(index, gate)| (place(gate), index))
            .collect();
        hash::sort(&mut order);
        let at = |index: u32| usize::try_from(index).ok().and_then(|i| held.get(i));
        let held: Vec<EndpointGate> = order.iter().filter_map(|(_, i)| at(*i).copied()).collect();
        GatesView {
            held,
            fail_open: gates.fail_open,
        }
    }

    /// Gives `use_view` what a blob of gates means for a cluster. `version` is the blob's in shared
    /// data, never 0: an unchanged blob is not decoded again.
    pub fn with<R>(
        cluster: &Cluster,
        blob: &[u8],
        version: u32,
        use_view: impl FnOnce(&GatesView) -> R,
    ) -> R {
        if blob.is_empty() {
            return use_view(&GatesView::default());
        }
        let decode = || GatesView::new(cluster, &Gates::decode(blob));
        cluster.memo.with(version, decode, use_view)
    }

    /// The gate of an endpoint; of several, the one with the most tries.
    pub fn of(&self, endpoint: u32) -> Option<&EndpointGate> {
        self.all_of(endpoint).next()
    }

    fn all_of(&self, endpoint: u32) -> impl Iterator<Item = &EndpointGate> {
        let start = self.held.partition_point(|gate| gate.endpoint < endpoint);
        let from = self.held.get(start..).unwrap_or_default();
        from.iter()
            .take_while(move |gate| gate.endpoint == endpoint)
    }

    /// The verdict on an endpoint.
    pub fn standing(&self, endpoint: u32, now: WallTime) -> Standing {
        if self.held.is_empty() {
            return Standing::Ready;
        }
        let each = self.all_of(endpoint).map(|gate| gate.standing(now));
        each.max().unwrap_or(Standing::Ready)
    }

    /// How long an endpoint's window still lasts, nanoseconds; 0 where it is in none.
    pub fn wait_ns(&self, endpoint: u32, now: WallTime) -> u64 {
        self.all_of(endpoint)
            .filter(|gate| gate.standing(now) == Standing::BackingOff)
            .map(|gate| gate.until.since(now))
            .max()
            .unwrap_or(0)
    }

    /// Whether nothing is held against anybody.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The endpoints that have gates, each once.
    pub fn endpoints(&self) -> impl Iterator<Item = u32> {
        let same = |a: &EndpointGate, b: &EndpointGate| a.endpoint == b.endpoint;
        let runs = self.held.chunk_by(same);
        runs.filter_map(|run| run.first()).map(|gate| gate.endpoint)
    }
}
