//! What came of one probe.

use std::fmt;

/// What came of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend did what the health check asks for.
    Passed,
    /// It did not.
    Failed(Failure),
    /// The probe could not be made: it says nothing about the backend.
    Unknown(Obstacle),
}

/// How a backend failed a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The network does not lead there.
    Unreachable,
    /// Not done within the timeout.
    Timeout,
    /// The connection was closed or reset before the response was complete.
    Closed,
    /// The response has this status, which the health check does not expect.
    Status(u16),
    /// What came is not the protocol that was spoken.
    Protocol,
    /// The response is longer than a health check's may be.
    TooLarge,
    /// No TLS session, or not with who it should be.
    Tls,
}

/// Why a probe could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// This machine lacks sockets, ports or memory.
    Resources,
    /// The cluster's `caFile` cannot be read, or holds no certificate.
    CaFile,
    /// A value of the health check cannot be sent.
    Request,
}

impl Failure {
    /// Every label there is.
    pub const LABELS: [&'static str; 8] = [
        "refused",
        "unreachable",
        "timeout",
        "closed",
        "status",
        "protocol",
        "too_large",
        "tls",
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::Timeout => "timeout",
            Failure::Closed => "closed",
            Failure::Status(_) => "status",
            Failure::Protocol => "protocol",
            Failure::TooLarge => "too_large",
            Failure::Tls => "tls",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            other => f.write_str(other.label()),
        }
    }
}

impl Obstacle {
    /// Every label there is.
    pub const LABELS: [&'static str; 3] = ["resources", "ca_file", "request"];

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Obstacle::Resources => "resources",
            Obstacle::CaFile => "ca_file",
            Obstacle::Request => "request",
        }
    }
}
