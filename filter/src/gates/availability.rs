//! How much of a cluster is available, and the latches of the regimes that follow from it.

use super::event::Event;
use super::gates::Gates;
use super::view::GatesView;
use crate::base::time::WallTime;
use crate::cluster::pool::Pool;
use crate::cluster::{Backend, Cluster, Endpoint, EndpointIndex};

/// How many backends are available (healthy, normal and not exhausted; merely waiting counts as
/// available, GT-2), and how many there are. What is held against one backend of an address is held
/// against all of them (LB-18).
pub fn count_available(cluster: &Cluster, gates: &Gates) -> (u32, u32) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let available = available(cluster, gates).count();
    (number(available), number(cluster.backends.len()))
}

/// How many backends are inside a cooldown.
pub fn count_cooling(cluster: &Cluster, gates: &Gates, now: WallTime) -> u32 {
    let view = GatesView::new(cluster, gates);
    let backends = cluster.backends.iter().filter(|_| !view.is_empty());
    let cooling = backends.filter(|backend| view.cools(backend.endpoint, now));
    u32::try_from(cooling.count()).unwrap_or(u32::MAX)
}

fn available<'a>(cluster: &'a Cluster, gates: &'a Gates) -> impl Iterator<Item = &'a Backend> {
    let view = GatesView::new(cluster, gates);
    let backends = cluster.backends.iter();
    backends.filter(move |backend| backend.is_normal() && view.is_available(backend.endpoint))
}

/// Latches all-down (GT-10); an empty cluster does not go down. The first that is available decides,
/// so that a failure does not cost what the cluster's size is.
pub fn all_down(cluster: &Cluster, gates: &mut Gates, events: &mut Vec<Event>) {
    let total = u32::try_from(cluster.backends.len()).unwrap_or(u32::MAX);
    if total > 0 && !gates.all_down && available(cluster, gates).next().is_none() {
        gates.all_down = true;
        events.push(Event::AllDown { total });
    }
}

/// Ends all-down once somebody is available (GT-10); an empty cluster does not recover.
pub fn recovered(cluster: &Cluster, gates: &mut Gates, events: &mut Vec<Event>) {
    if gates.all_down {
        let (available, total) = count_available(cluster, gates);
        if available > 0 {
            gates.all_down = false;
            events.push(Event::Recovered { available, total });
        }
    }
}

/// Whether nobody else of the cluster stands as well as an endpoint: without it requests would be
/// refused, or sent to the unhealthy.
pub fn is_last(cluster: &Cluster, gates: &Gates, endpoint: EndpointIndex, now: WallTime) -> bool {
    let view = GatesView::new(cluster, gates);
    let own = view.lifting_trials().standing(endpoint, now);
    let members = cluster.all.pools().into_iter().flat_map(Pool::members);
    let mut others = members.filter(|other| **other != endpoint);
    !others.any(|other| view.standing(*other, now) <= own)
}

/// Whether one more endpoint of its tier may be held back by failures other than refused connections: so
/// many of a hundred, rounded down, and of two or more at least one.
pub fn may_eject(cluster: &Cluster, gates: &Gates, endpoint: EndpointIndex, now: WallTime) -> bool {
    let Some(Endpoint { backup, weight, .. }) = cluster.endpoint(endpoint) else {
        return false;
    };
    let [primaries, backups] = &cluster.tiers;
    let tier = if *backup { backups } else { primaries };
    let members = tier.pool_of(*weight).members();
    let view = GatesView::new(cluster, gates);
    let others = members.iter().filter(|member| **member != endpoint);
    let ejected = others.filter(|member| view.ejected(**member, now));
    let percent = u64::from(cluster.passive.max_ejected_percent);
    let total = u64::try_from(members.len()).unwrap_or(u64::MAX);
    let most = total.saturating_mul(percent).checked_div(100).unwrap_or(0);
    let least = u64::from(total > 1);
    u64::try_from(ejected.count()).is_ok_and(|ejected| ejected < most.max(least))
}

/// Latches fail-open (GT-7): a pick found nobody ready.
pub fn fails_open(gates: &mut Gates, events: &mut Vec<Event>) {
    if !gates.fail_open {
        gates.fail_open = true;
        events.push(Event::FailOpenEntered);
    }
}

#[cfg(test)]
mod tests;
