//! What a stream's attempts change in the gates of its cluster.

use super::availability::{all_down, is_last, may_eject};
use super::event::Event;
use super::evidence::{Counts, Evidence, Met, Status};
use super::gate::Gate;
use super::gates::Gates;
use super::{backoff, cooldown};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::{BackendIndex, Cluster, EndpointIndex};

/// What a stream does to the gates of its cluster.
#[derive(Debug, Clone)]
pub struct GateChange {
    /// What its attempts met, in their order.
    pub evidence: Vec<Evidence>,
    /// When the stream was picked: it says nothing of the time after a later failure (RT-2).
    pub picked_at: WallTime,
    /// Wall clock.
    pub now: WallTime,
}

impl GateChange {
    /// Applies itself; the events say what changed. Pure, so that it can run again when another
    /// worker's change came between.
    pub fn apply(&self, cluster: &Cluster, gates: &mut Gates, rng: &mut SplitMix64) -> Vec<Event> {
        let mut events = Vec::new();
        for evidence in &self.evidence {
            let endpoint = evidence.endpoint;
            match evidence.counts {
                Counts::Failure if self.may_hold(cluster, gates, evidence) => {
                    self.fail(cluster, gates, evidence, rng, &mut events);
                }
                Counts::Success => self.succeed(cluster, gates, endpoint, &mut events),
                Counts::Failure | Counts::Nothing => {}
            }
            match evidence.what {
                Met::Status(status) if cluster.passive.cools(status.code) => {
                    self.cool(cluster, gates, endpoint, status, &mut events);
                }
                _ if evidence.counts == Counts::Success => self.warm_up(cluster, gates, endpoint),
                _ => {}
            }
        }
        all_down(cluster, gates, &mut events);
        events
    }

    /// Whether a failure may hold its backend back. That no connection could be made is reason enough;
    /// all else says less: perhaps a kept connection had gone stale, or it is the requests that fail. So
    /// little leaves no cluster without anybody, and of a tier most.
    fn may_hold(&self, cluster: &Cluster, gates: &Gates, evidence: &Evidence) -> bool {
        let endpoint = evidence.endpoint;
        match evidence.what {
            Met::Connect => true,
            _ if is_last(cluster, gates, endpoint, self.now) => false,
            what => !what.is_passive() || may_eject(cluster, gates, endpoint, self.now),
        }
    }

    /// Whether the stream says anything of the time after a gate's latest failure (RT-2).
    fn is_news(&self, gate: &Gate) -> bool {
        gate.failed_at < self.picked_at || gate.is_of_the_future(self.now)
    }

    fn succeed(
        &self,
        cluster: &Cluster,
        gates: &mut Gates,
        endpoint: EndpointIndex,
        events: &mut Vec<Event>,
    ) {
        let (mut cleared, mut was_down) = (false, false);
        for key in cluster.keys_at(endpoint) {
            gates.update(key, |gate| {
                if gate.has_counts() && self.is_news(gate) {
                    cleared |= gate.tries > 0;
                    was_down |= gate.down;
                    if gate.down && cluster.ramp.is_some() {
                        gate.recovered_at = self.now;
                    }
                    gate.forgive();
                }
            });
        }
        let backend = backend_at(cluster, endpoint);
        if cleared {
            events.push(Event::BackoffClosed { backend });
        }
        if was_down {
            events.push(Event::BackendUp { backend });
        }
    }

    fn fail(
        &self,
        cluster: &Cluster,
        gates: &mut Gates,
        &Evidence { endpoint, what, .. }: &Evidence,
        rng: &mut SplitMix64,
        events: &mut Vec<Event>,
    ) {
        // All ids at the address share the failure and the wait (LB-18).
        let (mut tries_before, mut was_down) = (0, false);
        for gate in cluster.keys_at(endpoint).filter_map(|key| gates.of(key)) {
            if gate.backs_off(self.now) || !self.is_news(&gate) {
                return;
            }
            tries_before = tries_before.max(u32::from(gate.tries));
            was_down |= gate.down;
        }
        let wait_ns = backoff::wait_ns(&cluster.backoff, tries_before, rng);
        let tries_max = cluster.backoff.max_tries;
        let tries = tries_before.saturating_add(1).min(tries_max);
        // The number that counts may have been edited: down stays down until a success (RT-5).
        let down = was_down || tries == tries_max;
        for key in cluster.keys_at(endpoint) {
            gates.update(key, |gate| {
                gate.tries = u8::try_from(tries).unwrap_or(u8::MAX);
                gate.down = down;
                gate.ejected = what.is_passive();
                gate.on_trial = false;
                gate.failed_at = self.now;
                gate.until = self.now.plus(wait_ns);
            });
        }
        let backend = backend_at(cluster, endpoint);
        events.push(Event::BackoffOpened {
            backend,
            tries,
            wait_ns,
            reason: what.name(),
        });
        if down && !was_down {
            events.push(Event::BackendDown { backend });
        }
    }

    /// A request that was picked after the cooldown was served: it is over and forgotten (RT-14).
    fn warm_up(&self, cluster: &Cluster, gates: &mut Gates, endpoint: EndpointIndex) {
        for key in cluster.keys_at(endpoint) {
            let gate = gates.of(key).filter(|gate| {
                let picked_after = gate.cools_until <= self.picked_at;
                picked_after || self.now.stepped_back_since(gate.cooled_at)
            });
            if gate.is_some_and(|gate| gate.cools_until > WallTime::default()) {
                gates.update(key, Gate::warm_up);
            }
        }
    }

    /// Leaves a backend alone that has too much to do. What was picked before the answer that counted
    /// last came escalates nothing, and what it asks for may only lengthen the cooldown.
    fn cool(
        &self,
        cluster: &Cluster,
        gates: &mut Gates,
        endpoint: EndpointIndex,
        status: Status,
        events: &mut Vec<Event>,
    ) {
        let Some(config) = &cluster.passive.cooldown else {
            return;
        };
        // All ids at the address share the cooldown (LB-18).
        let (mut count, mut cooled_at, mut cools_until) = (0, WallTime::default(), self.now);
        for gate in cluster.keys_at(endpoint).filter_map(|key| gates.of(key)) {
            count = gate.cooldowns.max(count);
            if !self.now.stepped_back_since(gate.cooled_at) {
                cooled_at = gate.cooled_at.max(cooled_at);
                cools_until = gate.cools_until.max(cools_until);
            }
        }
        if cooled_at < self.picked_at && cools_until <= self.now {
            count = count.saturating_add(1);
            let window_ns = cooldown::window_ns(config, count, status.asked_ns);
            (cooled_at, cools_until) = (self.now, self.now.plus(window_ns));
            events.push(Event::CooldownStarted {
                backend: backend_at(cluster, endpoint),
                status: status.code,
                count,
                window_ns,
                asked: status.asked_ns.is_some(),
            });
        } else {
            let Some(asked_ns) = status.asked_ns else {
                return;
            };
            let asked = self.now.plus(cooldown::granted_ns(config, asked_ns));
            cools_until = cools_until.max(asked);
        }
        for key in cluster.keys_at(endpoint) {
            gates.update(key, |gate| {
                gate.cooldowns = count;
                (gate.cooled_at, gate.cools_until) = (cooled_at, cools_until);
            });
        }
    }
}

fn backend_at(cluster: &Cluster, endpoint: EndpointIndex) -> BackendIndex {
    cluster
        .endpoint(endpoint)
        .map_or(BackendIndex::NONE, |endpoint| endpoint.backend)
}

#[cfg(test)]
mod tests;
