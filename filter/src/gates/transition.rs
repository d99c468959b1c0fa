//! A response's entry: who served, who failed, and what that changes.
//!
//! Envoy tells only the last endpoint and the number of attempts. The list's own arithmetic gives
//! the rest: attempt k went to entry k, so entries before the last one did not answer.

use crate::balance::list::{LIST_MAX, List};
use crate::balance::route;
use crate::base::keyed::KeySet;
use crate::base::random::SplitMix64;
use crate::cluster::Cluster;
use crate::gates::Gates;
use crate::gates::backoff;
use crate::gates::event::Event;
use crate::gates::standing::Marks;

/// What became of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The endpoint answered, with whatever status.
    Answered,
    /// No connection could be made to it.
    ConnectFailed,
    /// It gave no answer for another reason: a reset, a timeout. That proves nothing of it.
    Unanswered,
    /// The client left while it was being asked.
    Abandoned,
}

/// What Envoy says of a stream's attempts.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The last attempt's endpoint, as Envoy spells it.
    pub address: Option<&'a [u8]>,
    /// Attempts made.
    pub attempts: usize,
    /// How the last one ended.
    pub ending: Ending,
}

/// Who served, as far as the list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// This endpoint.
    Endpoint(u32),
    /// Somebody who is not in the list: Envoy's fallback policy chose.
    Spill,
    /// Nobody.
    Nobody,
}

/// What a stream's attempts prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Endpoints that failed.
    pub failed: List,
    /// Who served.
    pub server: Server,
    /// Every entry was tried and none answered (RT-6).
    pub exhausted: bool,
}

/// Reads an observation against the list. `transport_only` says that nothing but transport failures
/// was retried; elsewhere an entry that was passed over may have answered.
pub fn judge(
    cluster: &Cluster,
    list: &List,
    transport_only: bool,
    seen: &Observation<'_>,
) -> Outcome {
    let entries = list.entries();
    let mut failed = List::default();
    let place = seen.address.and_then(|address| {
        let last = seen.attempts.saturating_sub(1);
        let at = |place: usize| {
            let endpoint = entries.get(place).and_then(|e| cluster.endpoint(*e));
            endpoint.is_some_and(|endpoint| endpoint.address.as_bytes() == address)
        };
        if at(last) {
            Some(last)
        } else {
            (0..entries.len()).find(|place| at(*place))
        }
    });
    let Some((place, last)) = place.and_then(|p| entries.get(p).map(|last| (p, *last))) else {
        let spilled = seen.address.is_some() && seen.ending == Ending::Answered;
        let server = if spilled {
            Server::Spill
        } else {
            Server::Nobody
        };
        return Outcome {
            failed,
            server,
            exhausted: false,
        };
    };
    // Fewer attempts: entries were unknown to Envoy and skipped. More: hedging. Neither proves
    // anything of the entries before.
    if transport_only && seen.attempts == place.saturating_add(1) {
        for passed in entries.iter().take(place).filter(|passed| **passed != last) {
            failed.push(*passed);
        }
    }
    match seen.ending {
        Ending::Answered => Outcome {
            failed,
            server: Server::Endpoint(last),
            exhausted: false,
        },
        ending => {
            if ending == Ending::ConnectFailed {
                failed.push(last);
            }
            let all_tried = seen.attempts >= entries.len().min(LIST_MAX);
            let exhausted = all_tried && ending != Ending::Abandoned;
            Outcome {
                failed,
                server: Server::Nobody,
                exhausted,
            }
        }
    }
}

/// What a stream does to the gates of its cluster.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Endpoints that failed.
    pub failed: List,
    /// The endpoint that answered.
    pub served: Option<u32>,
    /// When the stream was picked: its success says nothing of later failures.
    pub picked_ns: u64,
    /// Wall clock.
    pub now_ns: u64,
}

impl Change {
    /// Applies itself; the events say what changed. Pure, so that it can run again when another
    /// worker's change came between.
    pub fn apply(&self, cluster: &Cluster, gates: &mut Gates, rng: &mut SplitMix64) -> Vec<Event> {
        let mut events = Vec::new();
        for endpoint in self.failed.entries() {
            fail(cluster, gates, *endpoint, self.now_ns, rng, &mut events);
        }
        if let Some(endpoint) = self.served {
            self.succeed(cluster, gates, endpoint, &mut events);
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
                let earlier = gate.failed_ns < self.picked_ns || gate.is_of_the_future(self.now_ns);
                if gate.tries > 0 && earlier {
                    tries = tries.max(u32::from(gate.tries));
                    cleared = true;
                    (gate.tries, gate.failed_ns, gate.until_ns) = (0, 0, 0);
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
    now_ns: u64,
    rng: &mut SplitMix64,
    events: &mut Vec<Event>,
) {
    // All ids at the address share the failure and the wait (LB-18).
    let mut tries_before: u32 = 0;
    for gate in cluster.keys_at(endpoint).filter_map(|key| gates.of(key)) {
        if gate.backs_off(now_ns) {
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
            gate.failed_ns = now_ns;
            gate.until_ns = now_ns.saturating_add(wait_ns);
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

/// How many backends are available (healthy, normal and not exhausted; merely waiting counts as
/// available, GT-2), and how many there are. What is held against one backend of an address is held
/// against all of them (LB-18).
pub fn count_available(cluster: &Cluster, gates: &Gates) -> (u32, u32) {
    let max_tries = cluster.backoff.max_tries;
    let out: KeySet = gates
        .iter()
        .filter(|gate| gate.unhealthy || u32::from(gate.tries) >= max_tries)
        .filter_map(|gate| cluster.backend_by_key(gate.key))
        .map(|backend| u64::from(backend.endpoint))
        .collect();
    let available = cluster
        .backends
        .iter()
        .filter(|backend| backend.normal && !out.contains(backend.endpoint.into()))
        .count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (number(available), number(cluster.backends.len()))
}

/// Latches all-down (GT-10): an empty cluster neither goes down nor recovers.
pub fn availability(cluster: &Cluster, gates: &mut Gates, events: &mut Vec<Event>) {
    let (available, total) = count_available(cluster, gates);
    if total == 0 || gates.all_down == (available == 0) {
        return;
    }
    gates.all_down = available == 0;
    events.push(match gates.all_down {
        true => Event::AllDown { total },
        false => Event::Recovered { available, total },
    });
}

/// Latches fail-open (GT-7) as a pick found it.
pub fn fail_open(entered: bool, gates: &mut Gates, events: &mut Vec<Event>) {
    if gates.fail_open != entered {
        gates.fail_open = entered;
        events.push(if entered {
            Event::FailOpenEntered
        } else {
            Event::FailOpenLeft
        });
    }
}

/// What one worker of an Envoy does for a cluster from time to time: ends regimes that nobody asks
/// about any more, and forgets the gates of backends that are gone.
pub fn tidy(cluster: &Cluster, gates: &mut Gates, now_ns: u64) -> Vec<Event> {
    let mut events = Vec::new();
    gates.prune(now_ns, |key| cluster.backend_by_key(key).is_some());
    if gates.fail_open && route::any_ready(cluster, &Marks::new(cluster, gates), now_ns) {
        fail_open(false, gates, &mut events);
    }
    availability(cluster, gates, &mut events);
    events
}

#[cfg(test)]
mod tests;
