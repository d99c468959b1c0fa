//! What a stream's attempts change in the gates of its cluster.

use super::availability::availability;
use super::backoff;
use super::event::Event;
use super::evidence::{Evidence, Met};
use super::gates::Gates;
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::Cluster;

/// What a stream does to the gates of its cluster.
#[derive(Debug, Clone)]
pub struct GateChange {
    /// What its attempts met, in their order.
    pub evidence: Vec<Evidence>,
    /// When the stream was picked: its success says nothing of later failures.
    pub picked_at: WallTime,
    /// Wall clock.
    pub now: WallTime,
}

impl GateChange {
    /// Applies itself; the events say what changed. Pure, so that it can run again when another
    /// worker's change came between.
    pub fn apply(&self, cluster: &Cluster, gates: &mut Gates, rng: &mut SplitMix64) -> Vec<Event> {
        let mut events = Vec::new();
        for Evidence { endpoint, what } in &self.evidence {
            match what {
                Met::Connect | Met::Unknown => {
                    fail(cluster, gates, *endpoint, self.now, rng, &mut events);
                }
                Met::Served => self.succeed(cluster, gates, *endpoint, &mut events),
            }
        }
        availability(cluster, gates, &mut events);
        events
    }

    fn succeed(
        &self,
        cluster: &Cluster,
        gates: &mut Gates,
        endpoint: u32,
        events: &mut Vec<Event>,
    ) {
        let (mut tries, mut cleared) = (0, false);
        for key in cluster.keys_at(endpoint) {
            gates.update(key, |gate| {
                let earlier = gate.failed_at < self.picked_at || gate.is_of_the_future(self.now);
                if gate.tries > 0 && earlier {
                    tries = tries.max(u32::from(gate.tries));
                    cleared = true;
                    gate.forgive();
                }
            });
        }
        let backend = backend_at(cluster, endpoint);
        if cleared {
            events.push(Event::BackoffClosed { backend });
        }
        if tries >= cluster.backoff.max_tries {
            events.push(Event::BackendUp { backend });
        }
    }
}

fn fail(
    cluster: &Cluster,
    gates: &mut Gates,
    endpoint: u32,
    now: WallTime,
    rng: &mut SplitMix64,
    events: &mut Vec<Event>,
) {
    // All ids at the address share the failure and the wait (LB-18).
    let mut tries_before: u32 = 0;
    for gate in cluster.keys_at(endpoint).filter_map(|key| gates.of(key)) {
        if gate.backs_off(now) {
            return; // RT-2: within its own window a failure says nothing new.
        }
        tries_before = tries_before.max(u32::from(gate.tries));
    }
    let wait_ns = backoff::wait_ns(&cluster.backoff, tries_before, rng);
    let tries = tries_before
        .saturating_add(1)
        .min(cluster.backoff.max_tries);
    for key in cluster.keys_at(endpoint) {
        gates.update(key, |gate| {
            gate.tries = u8::try_from(tries).unwrap_or(u8::MAX);
            gate.failed_at = now;
            gate.until = now.plus(wait_ns);
        });
    }
    let backend = backend_at(cluster, endpoint);
    events.push(Event::BackoffOpened {
        backend,
        tries,
        wait_ns,
    });
    if tries_before < cluster.backoff.max_tries && tries == cluster.backoff.max_tries {
        events.push(Event::BackendDown { backend });
    }
}

fn backend_at(cluster: &Cluster, endpoint: u32) -> u32 {
    cluster
        .endpoint(endpoint)
        .map_or(u32::MAX, |endpoint| endpoint.backend)
}

#[cfg(test)]
mod tests;
