//! What operators can see: every automatic act has an event, a log line and a counter.

use crate::base::event::EventName;
use crate::cluster::{BackendIndex, Cluster};
use crate::config::Code;

/// Something that changed for a cluster; backends are indices of the cluster it happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A failure was counted; the backend is left alone for a while.
    BackoffOpened {
        /// The backend.
        backend: BackendIndex,
        /// Failures counted since its last success.
        tries: u32,
        /// For how long.
        wait_ns: u64,
        /// What the attempt met.
        reason: &'static str,
    },
    /// A backend that had failed answered.
    BackoffClosed {
        /// The backend.
        backend: BackendIndex,
    },
    /// As many failures were counted as count (RT-5).
    BackendDown {
        /// The backend.
        backend: BackendIndex,
    },
    /// The first answer after that.
    BackendUp {
        /// The backend.
        backend: BackendIndex,
    },
    /// An answer said that a backend has too much to do; it is left alone for a while (RT-12).
    CooldownStarted {
        /// The backend.
        backend: BackendIndex,
        /// The answer's status.
        status: Code,
        /// Such answers since its last success.
        count: u8,
        /// For how long.
        window_ns: u64,
        /// The answer itself asked for that time.
        asked: bool,
    },
    /// No backend is available any more (GT-10).
    AllDown {
        /// Backends there are.
        total: u32,
    },
    /// Some backend is available again.
    Recovered {
        /// Backends that are.
        available: u32,
        /// Backends there are.
        total: u32,
    },
    /// Requests are sent to unhealthy backends from now on (GT-7).
    FailOpenEntered,
    /// A healthy backend serves again.
    FailOpenLeft,
}

impl Event {
    /// Its name in the closed list.
    pub fn name(&self) -> EventName {
        match self {
            Event::BackoffOpened { .. } => EventName::BackoffOpened,
            Event::BackoffClosed { .. } => EventName::BackoffClosed,
            Event::BackendDown { .. } => EventName::BackendDown,
            Event::BackendUp { .. } => EventName::BackendUp,
            Event::CooldownStarted { .. } => EventName::CooldownStarted,
            Event::AllDown { .. } => EventName::AllDown,
            Event::Recovered { .. } => EventName::Recovered,
            Event::FailOpenEntered => EventName::FailOpenEntered,
            Event::FailOpenLeft => EventName::FailOpenLeft,
        }
    }

    /// What a cooldown's length came from, in the counter of cooldowns; `None` for other events.
    pub fn cooldown(&self) -> Option<&'static str> {
        match self {
            Event::CooldownStarted { asked: true, .. } => Some("retry_after"),
            Event::CooldownStarted { asked: false, .. } => Some("status"),
            _ => None,
        }
    }

    /// How loud its line is.
    pub fn level(&self) -> log::Level {
        match self {
            Event::AllDown { .. } => log::Level::Error,
            Event::BackendDown { .. } | Event::FailOpenEntered => log::Level::Warn,
            _ => log::Level::Info,
        }
    }

    /// What its log line says behind the event's name: the cluster, and the fields of its kind.
    pub fn line(&self, cluster: &Cluster) -> String {
        let head = format!("cluster={}", cluster.name);
        let of = |backend: BackendIndex| {
            let backend = cluster.backend(backend);
            let endpoint = backend.and_then(|b| cluster.endpoint(b.endpoint));
            let (id, address) = (
                backend.map_or("?", |b| &*b.id),
                endpoint.map_or("?", |e| &*e.address),
            );
            format!("{head} backend={id:?} address={address}")
        };
        match *self {
            Event::BackoffOpened {
                backend,
                tries,
                wait_ns,
                reason,
            } => {
                let wait_ms = wait_ns.checked_div(1_000_000).unwrap_or(0);
                format!(
                    "{} tries={tries} wait_ms={wait_ms} reason={reason}",
                    of(backend)
                )
            }
            Event::BackoffClosed { backend }
            | Event::BackendDown { backend }
            | Event::BackendUp { backend } => of(backend),
            Event::CooldownStarted {
                backend,
                status,
                count,
                window_ns,
                ..
            } => {
                let wait_ms = window_ns.checked_div(1_000_000).unwrap_or(0);
                let reason = self.cooldown().unwrap_or("");
                format!(
                    "{} status={status} cooldowns={count} wait_ms={wait_ms} reason={reason}",
                    of(backend)
                )
            }
            Event::AllDown { total } => format!("{head} total={total}"),
            Event::Recovered { available, total } => {
                format!("{head} available={available} total={total}")
            }
            Event::FailOpenEntered | Event::FailOpenLeft => head,
        }
    }
}
