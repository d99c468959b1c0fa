//! What one attempt of a stream met: all that the gates ever learn from.

use crate::cluster::averages;
use crate::cluster::{Cluster, EndpointIndex};
use crate::config::{Code, Failure};

/// One attempt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Whom it was sent to.
    pub endpoint: EndpointIndex,
    /// What it met.
    pub what: Met,
    /// What that is for the endpoint's back-off.
    pub counts: Counts,
}

/// What an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// No connection could be made.
    Connect,
    /// The connection ended before there was an answer.
    Reset,
    /// There was no answer in time.
    Timeout,
    /// A failure of which nothing else is known: Envoy went on to the next entry of the list.
    Unknown,
    /// An answer, with whatever other status.
    Served,
    /// An answer whose status counts for the back-off, or cools the backend down.
    Status(Status),
}

/// What an attempt is for the back-off of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// It ends one.
    Success,
    /// It begins one.
    Failure,
    /// The document does not count it, or not yet.
    Nothing,
}

/// An answer that says something against its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its status.
    pub code: Code,
    /// For how long it asks to be left alone, nanoseconds; `None`: it does not, or nobody listens.
    pub asked_ns: Option<u64>,
}

impl Evidence {
    /// What an attempt means by itself, as the cluster's document counts.
    pub fn new(cluster: &Cluster, endpoint: EndpointIndex, what: Met) -> Self {
        let passive = &cluster.passive;
        let listed = |failure| passive.failures.contains(&failure);
        let counts = match what {
            Met::Served => Counts::Success,
            Met::Connect | Met::Unknown if listed(Failure::ConnectFailure) => Counts::Failure,
            Met::Reset if listed(Failure::Reset) => Counts::Failure,
            Met::Timeout if listed(Failure::Timeout) => Counts::Failure,
            Met::Status(status) if passive.fails(status.code) => Counts::Failure,
            // It answers, so nothing is wrong with the way to it.
            Met::Status(_) => Counts::Success,
            Met::Connect | Met::Unknown | Met::Reset | Met::Timeout => Counts::Nothing,
        };
        Evidence {
            endpoint,
            what,
            counts,
        }
    }

    /// Whether it may change a gate, whatever is counted against its backend.
    pub fn is_news(&self, cluster: &Cluster) -> bool {
        let cools = match self.what {
            Met::Status(status) => cluster.passive.cools(status.code),
            _ => false,
        };
        cools || self.counts == Counts::Failure
    }

    /// Whether the attempt failed, and its reason in the counter of those.
    pub fn failure(&self) -> Option<&'static str> {
        let is_answer = self.what.is_answer();
        (!is_answer || self.counts != Counts::Success).then(|| self.what.name())
    }
}

impl Met {
    /// Its name in counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Met::Connect => "connect",
            Met::Reset => "reset",
            Met::Timeout => "timeout",
            Met::Unknown => "unknown",
            Met::Served => "served",
            Met::Status(_) => "status",
        }
    }

    /// What it counts as where failures are averaged, nanoseconds; 0: it went well (RT-15).
    pub fn penalty_ns(self) -> u64 {
        match self {
            Met::Timeout => 30_000_000_000,
            Met::Connect | Met::Reset | Met::Unknown => 20_000_000_000,
            Met::Status(status) => averages::penalty_ns(status.code),
            Met::Served => 0,
        }
    }

    /// Whether there was an answer.
    pub fn is_answer(self) -> bool {
        matches!(self, Met::Served | Met::Status(_))
    }

    /// Whether it is told by more than a connection that was not made. Such failures count in rows, and
    /// hold back no more than a part of a tier.
    pub fn is_passive(self) -> bool {
        matches!(self, Met::Reset | Met::Timeout | Met::Status(_))
    }
}
