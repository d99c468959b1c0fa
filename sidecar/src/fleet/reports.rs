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
    };
    fleet.send_if_modified(|fleet| {
        if !fleet.nodes.contains_key(&request.node) && fleet.nodes.len() >= NODES_MAX {
            // Not kept, so what it refuses cannot be told from what it refused before.
            refused_before = report.refused.as_ref().map(|refused| refused.revision);
            return false;
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

/// Drops the nodes that went silent, until told to stop.
pub async fn drop_silent(fleet: watch::Sender<Fleet>, stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            now = tick.tick() => {
                fleet.send_if_modified(|fleet| {
                    let before = fleet.nodes.len();
                    fleet.nodes.retain(|_, node| now.duration_since(node.seen) <= SILENCE_MAX);
                    fleet.nodes.len() != before
                });
            }
        }
    }
}
