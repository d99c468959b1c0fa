//! How much of a cluster is available, and the latches of the regimes that follow from it.

use super::event::Event;
use super::gates::Gates;
use crate::base::hash::KeySet;
use crate::cluster::Cluster;

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
        .filter(|backend| backend.is_normal() && !out.contains(backend.endpoint.into()))
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

#[cfg(test)]
mod tests;
