//! The one verdict on an endpoint, and which verdicts a pick admits.
//!
//! Draining, cordoned and removed endpoints are in no [`crate::cluster::tier::Tier`] and so never
//! come here: that is the operator's word, and it beats everything below.

/// Where an endpoint stands now. Windows beat unhealthy, so that fail-open cannot hammer a backend that
/// has just failed or has said that it has enough (GT-6): from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is held against it.
    Ready,
    /// The sidecar's verdict is against it.
    Unhealthy,
    /// Its window is over, and one request tries it for all others.
    OnTrial,
    /// It answered that it has too much to do, and its cooldown is not over.
    CoolingDown,
    /// It failed, and its window is not over.
    BackingOff,
}

/// Who may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// The ready.
    Ready,
    /// The unhealthy, when nobody is ready (GT-5).
    FailOpen,
}

impl Admit {
    /// Whether an endpoint of this standing may be picked.
    pub fn admits(self, standing: Standing) -> bool {
        match self {
            Admit::Ready => standing == Standing::Ready,
            Admit::FailOpen => standing <= Standing::Unhealthy,
        }
    }
}
