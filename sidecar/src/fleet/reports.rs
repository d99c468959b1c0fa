//! What the proxies report over the exchange, kept for as long as they do.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_filter::fleet::exchange::{Rejection, Request};
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::model::event::Event;

/// A node that is silent for longer is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A node that has no worker for longer is waited for by nobody.
const UNSERVING_MAX: Duration = Duration::from_secs(30);
/// Most nodes kept; further ones get verdicts but are not shown.
const NODES_MAX: usize = 1024;

/// The last report of every proxy that still reports, by Envoy's node id.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By node id.
    pub nodes: BTreeMap<String, NodeReport>,
}

/// One proxy's last report.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// The distinct revisions its workers run.
    pub revisions: Vec<u64>,
    /// Workers that serve requests.
    pub workers: u32,
    /// The last configuration its filter refused, and why.
    pub refused: Option<Rejection>,
    /// When the report came.
    pub seen: Instant,
    /// Since when it has had no worker that runs anything; `None`: it has one.
    pub unserving: Option<Instant>,
    /// It has had none for so long that nobody waits for it: no request has come to it.
    pub idle: bool,
}

impl Fleet {
    /// Drops the nodes that went silent, and waits no longer for those that serve nothing; whether
    /// there were any.
    fn age(&mut self, now: Instant) -> bool {
        let before = self.nodes.len();
        self.nodes
            .retain(|_, node| now.duration_since(node.seen) <= SILENCE_MAX);
        let mut changed = self.nodes.len() != before;
        for node in self.nodes.values_mut().filter(|node| !node.idle) {
            let since = node.unserving;
            node.idle = since.is_some_and(|since| now.duration_since(since) > UNSERVING_MAX);
            changed |= node.idle;
        }
        changed
    }
}

/// Keeps a report. Receivers wake up only when it says something new. Returns an event when the
/// node refused a configuration that it had not said so of before.
pub fn take(fleet: &watch::Sender<Fleet>, request: Request, now: Instant) -> Option<Event> {
    let mut refused_before = None;
    let refused = request.rejected.clone();
    let node = request.node.clone();
    let report = NodeReport {
        revisions: request.revisions,
        workers: request.workers,
        refused: request.rejected,
        seen: now,
        unserving: None,
        idle: false,
    };
    fleet.send_if_modified(|fleet| {
        if !fleet.nodes.contains_key(&request.node) && fleet.nodes.len() >= NODES_MAX {
            // Not kept, so what it refuses cannot be told from what it refused before.
            refused_before = report.refused.as_ref().map(|refused| refused.revision);
            return false;
        }
        let mut report = report;
        let last = fleet.nodes.get(&request.node);
        if report.revisions.is_empty() {
            report.unserving = last.and_then(|last| last.unserving).or(Some(now));
            report.idle = last.is_some_and(|last| last.idle);
        }
        let Some(last) = fleet.nodes.insert(request.node, report.clone()) else {
            return true;
        };
        refused_before = last.refused.as_ref().map(|refused| refused.revision);
        (last.workers, last.revisions, last.refused)
            != (report.workers, report.revisions, report.refused)
    });
    let refused = refused.filter(|refused| refused_before != Some(refused.revision))?;
    Some(Event::ConfigRefused {
        node,
        revision: refused.revision,
        reason: refused.reason,
    })
}

/// Looks once a second who went silent and who serves nothing, until told to stop.
pub async fn drop_silent(fleet: watch::Sender<Fleet>, stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            now = tick.tick() => drop(fleet.send_if_modified(|fleet| fleet.age(now))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(revisions: &[u64]) -> Request {
        Request {
            node: "edge".to_owned(),
            revisions: revisions.to_vec(),
            workers: u32::try_from(revisions.len()).unwrap(),
            ..Request::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_serves_nothing_is_waited_for_so_long_and_again_once_it_serves() {
        let fleet = watch::Sender::new(Fleet::default());
        let start = Instant::now();
        let idle_at = |second: u64, revisions: &[u64]| {
            let now = start + Duration::from_secs(second);
            take(&fleet, report(revisions), now);
            fleet.send_if_modified(|fleet| fleet.age(now));
            fleet.borrow().nodes["edge"].idle
        };
        assert!(!idle_at(0, &[]));
        assert!(!idle_at(30, &[]), "it may still get its first request");
        assert!(idle_at(31, &[]));
        assert!(idle_at(32, &[]), "and stays so");
        assert!(!idle_at(33, &[7]));
        assert!(!idle_at(40, &[]), "from now on anew");
        assert!(!idle_at(70, &[]));
        assert!(idle_at(71, &[]));
    }
}
