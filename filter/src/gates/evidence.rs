//! What one attempt of a stream met: all that the gates ever learn from.

use crate::cluster::EndpointIndex;

/// One attempt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Whom it was sent to.
    pub endpoint: EndpointIndex,
    /// What it met.
    pub what: Met,
}

/// What an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// No connection could be made.
    Connect,
    /// A failure of which nothing else is known: Envoy went on to the next entry of the list.
    Unknown,
    /// An answer, with whatever other status.
    Served,
    /// An answer whose status cools the backend down.
    Status(Status),
}

/// An answer that says that the backend has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its status.
    pub code: u16,
    /// For how long it asks to be left alone, nanoseconds; `None`: it does not, or nobody listens.
    pub asked_ns: Option<u64>,
}

impl Met {
    /// Whether it is a failure, and its reason in the counter of failed attempts.
    pub fn failure(self) -> Option<&'static str> {
        match self {
            Met::Connect => Some("connect"),
            Met::Unknown => Some("unknown"),
            Met::Served | Met::Status(_) => None,
        }
    }

    /// Whether there was an answer.
    pub fn is_answer(self) -> bool {
        self.failure().is_none()
    }
}
