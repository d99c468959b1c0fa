//! What the proxies report over the exchange: the way back from the workers to the sidecar.

use std::collections::BTreeMap;

use pointsman_filter::fleet::exchange::Rejection;
use tokio::time::Instant;

/// The last report of every proxy that still reports, by Envoy's node id.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By node id.
    pub nodes: BTreeMap<String, NodeReport>,
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every worker that reports obeys it.
    Everywhere,
    /// Some do not yet.
    Behind,
    /// Nobody reports.
    Unknown,
}

impl Reach {
    /// Its name, as users see it.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Everywhere => "Everywhere",
            Reach::Behind => "Behind",
            Reach::Unknown => "Unknown",
        }
    }
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
