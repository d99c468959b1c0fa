//! The one sink of events: each is logged, counted, and kept for as long as it is among the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pointsman_filter::base::hash;
use tracing::{error, info, warn};

use super::metrics::Metrics;
use crate::model::event::Event;

/// Events that are kept.
pub const KEPT_MAX: usize = 1000;

/// The sink. Clones lead to the same one.
#[derive(Clone, Debug, Default)]
pub struct Events {
    metrics: Metrics,
    kept: Arc<Mutex<VecDeque<Event>>>,
}

impl Events {
    /// A sink that has kept nothing yet, and counts into these metrics.
    pub fn new(metrics: Metrics) -> Self {
        Events {
            metrics,
            kept: Arc::default(),
        }
    }

    /// Takes in what happened. The cluster of the event, if it has one, still has its series.
    pub fn report(&self, event: Event) {
        log(&event);
        self.metrics.event(&event);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event);
    }

    /// How often each event was reported.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.metrics.events()
    }
}

/// Writes the one log line of an event.
fn log(event: &Event) {
    let name = event.name();
    match event {
        Event::BackendUnhealthy {
            cluster,
            backend,
            address,
            reason,
        } => {
            warn!(event = name, %cluster, %backend, %address, %reason, "a backend became unhealthy");
        }
        Event::BackendHealthy {
            cluster,
            backend,
            address,
            reason,
        } => {
            let reason = reason.label();
            info!(event = name, %cluster, %backend, %address, reason, "a backend became healthy");
        }
        Event::VerdictsResumed {
            cluster,
            backends,
            origin,
        } => {
            let reason = origin.label();
            info!(
                event = name,
                %cluster, backends, reason, "backends were unhealthy before, and are until probes decide"
            );
        }
        Event::ClusterHalfHealthy {
            cluster,
            healthy,
            total,
        } => {
            warn!(event = name, %cluster, healthy, total, "at most half of a cluster is healthy");
        }
        Event::ProbesObstructed { cluster, obstacle } => {
            let reason = obstacle.label();
            warn!(event = name, %cluster, reason, "a cluster cannot be probed");
        }
        Event::ConfigRefused {
            node,
            revision,
            reason,
        } => {
            let revision = hash::hex(*revision);
            warn!(
                event = name,
                node, revision, reason, "a filter refused its configuration"
            );
        }
        Event::RegistryLost { reason } => {
            error!(
                event = name,
                reason, "the store is out of reach, the last good registry serves"
            );
        }
        Event::RegistryRestored => info!(event = name, "the store is back"),
        Event::RegistrySlow { took } => {
            let took_ms = took.as_millis();
            warn!(event = name, took_ms, "reading all of the store takes long");
        }
        Event::RegistryGuardHeld { served, found } => {
            let (from, to) = (served.backends, found.backends);
            warn!(
                event = name,
                from, to, "most backends are gone: waiting for a second reading"
            );
        }
        Event::RegistryGuardReleased { confirmed: true } => {
            warn!(
                event = name,
                confirmed = true,
                "most backends are gone indeed"
            );
        }
        Event::RegistryGuardReleased { confirmed: false } => {
            info!(event = name, confirmed = false, "the backends are back");
        }
        Event::ClockStepped { by_ms } => {
            warn!(event = name, by_ms, "the store's clock was set");
        }
        Event::HeartbeatImpossible {
            cluster,
            backend,
            reason,
        } => {
            let label = reason.label();
            warn!(
                event = name,
                cluster,
                backend,
                reason = label,
                "heartbeatAt {reason}"
            );
        }
        Event::OverrideSet { .. }
        | Event::OverrideCleared { .. }
        | Event::OverrideExpired { .. }
        | Event::JobDone { .. }
        | Event::JobFailed { .. } => log_what_was_asked(event),
    }
}

/// Of operators' overrides and jobs.
fn log_what_was_asked(event: &Event) {
    let name = event.name();
    match event {
        Event::OverrideSet {
            cluster,
            backend,
            entry,
        } => {
            let (state, reason, actor) = (entry.state.name(), &entry.reason, &entry.actor);
            info!(
                event = name,
                cluster, backend, state, reason, actor, "an operator's entry"
            );
        }
        Event::OverrideCleared { cluster, backend } => {
            info!(
                event = name,
                cluster, backend, "an operator's entry was taken back"
            );
        }
        Event::OverrideExpired { cluster, backend } => {
            info!(
                event = name,
                cluster, backend, "an operator's entry came to its end"
            );
        }
        Event::JobDone { job } => info!(event = name, job, "a job is done"),
        Event::JobFailed { job, reason } => {
            error!(event = name, job, reason, "a job cannot be done");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_and_all_are_counted() {
        let events = Events::default();
        for job in 0..KEPT_MAX + 2 {
            let job = job.to_string();
            events.report(Event::JobDone { job });
        }
        assert!(events.counts().contains(&("job_done", KEPT_MAX as u64 + 2)));
        let kept = events.kept.lock().unwrap();
        let job = |job: usize| Event::JobDone {
            job: job.to_string(),
        };
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept.front(), Some(&job(2)));
        assert_eq!(kept.back(), Some(&job(KEPT_MAX + 1)));
    }
}
