//! The ends of regimes, and the gates of backends that are gone.

use crate::balance::route;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::gates::Gates;
use crate::gates::availability::{all_down, recovered};
use crate::gates::event::Event;
use crate::gates::view::GatesView;

/// What one worker of an Envoy does for a cluster from time to time: forgets the gates of backends
/// that are gone, and ends regimes. It alone does, and only while all workers are `settled` on its
/// configuration: workers of two would end and begin a regime in turns.
pub fn tidy(cluster: &Cluster, gates: &mut Gates, settled: bool, now: WallTime) -> Vec<Event> {
    let mut events = Vec::new();
    let ramp_ns = cluster.ramp.map_or(0, |ramp| ramp.window_ns);
    gates.prune(now, ramp_ns, settled, |key| {
        cluster.backend_by_key(key).is_some()
    });
    if settled {
        if gates.fail_open && route::any_ready(cluster, &GatesView::new(cluster, gates), now) {
            gates.fail_open = false;
            events.push(Event::FailOpenLeft);
        }
        recovered(cluster, gates, &mut events);
    }
    all_down(cluster, gates, &mut events);
    events
}

#[cfg(test)]
mod tests;
