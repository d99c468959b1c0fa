//! The ends of the regimes that nobody asks about, and the gates of backends that are gone.

use crate::balance::route;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::gates::Gates;
use crate::gates::availability::{availability, fail_open};
use crate::gates::event::Event;
use crate::gates::view::GatesView;

/// What one worker of an Envoy does for a cluster from time to time: ends regimes that nobody asks
/// about any more, and forgets the gates of backends that are gone.
pub fn tidy(cluster: &Cluster, gates: &mut Gates, now: WallTime) -> Vec<Event> {
    let mut events = Vec::new();
    gates.prune(now, |key| cluster.backend_by_key(key).is_some());
    if gates.fail_open && route::any_ready(cluster, &GatesView::new(cluster, gates), now) {
        fail_open(false, gates, &mut events);
    }
    availability(cluster, gates, &mut events);
    events
}

#[cfg(test)]
mod tests;
