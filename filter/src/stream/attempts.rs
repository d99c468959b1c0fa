//! The arithmetic of lists: which endpoints failed, and which one served.
//!
//! Envoy tells only the last endpoint and the number of attempts. The list's own arithmetic gives
//! the rest: attempt k went to entry k, so entries before the last one did not answer.

use crate::balance::list::{LIST_MAX, List};
use crate::cluster::Cluster;

/// What became of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The endpoint answered, with whatever status.
    Answered,
    /// No connection could be made to it.
    ConnectFailed,
    /// It gave no answer for another reason: a reset, a timeout. That proves nothing of it.
    Unanswered,
    /// The client left while it was being asked.
    Abandoned,
}

/// What Envoy says of a stream's attempts.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The last attempt's endpoint, as Envoy spells it.
    pub address: Option<&'a [u8]>,
    /// Attempts made.
    pub attempts: usize,
    /// How the last one ended.
    pub ending: Ending,
}

/// Who served, as far as the list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// This endpoint.
    Endpoint(u32),
    /// Somebody who is not in the list: Envoy's fallback policy chose.
    Spill,
    /// Nobody.
    Nobody,
}

/// What a stream's attempts prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Endpoints that failed.
    pub failed: List,
    /// Who served.
    pub server: Server,
    /// Every entry was tried and none answered (RT-6).
    pub exhausted: bool,
}

/// Reads an observation against the list. `transport_only` says that nothing but transport failures
/// was retried; elsewhere an entry that was passed over may have answered.
pub fn judge(
    cluster: &Cluster,
    list: &List,
    transport_only: bool,
    seen: &Observation<'_>,
) -> Outcome {
    let entries = list.entries();
    let mut failed = List::default();
    let place = seen.address.and_then(|address| {
        let last = seen.attempts.saturating_sub(1);
        let at = |place: usize| {
            let endpoint = entries.get(place).and_then(|e| cluster.endpoint(*e));
            endpoint.is_some_and(|endpoint| endpoint.address.as_bytes() == address)
        };
        if at(last) {
            Some(last)
        } else {
            (0..entries.len()).find(|place| at(*place))
        }
    });
    let Some((place, last)) = place.and_then(|p| entries.get(p).map(|last| (p, *last))) else {
        let spilled = seen.address.is_some() && seen.ending == Ending::Answered;
        let server = if spilled {
            Server::Spill
        } else {
            Server::Nobody
        };
        return Outcome {
            failed,
            server,
            exhausted: false,
        };
    };
    // Fewer attempts: entries were unknown to Envoy and skipped. More: hedging. Neither proves
    // anything of the entries before.
    if transport_only && seen.attempts == place.saturating_add(1) {
        for passed in entries.iter().take(place).filter(|passed| **passed != last) {
            failed.push(*passed);
        }
    }
    match seen.ending {
        Ending::Answered => Outcome {
            failed,
            server: Server::Endpoint(last),
            exhausted: false,
        },
        ending => {
            if ending == Ending::ConnectFailed {
                failed.push(last);
            }
            let all_tried = seen.attempts >= entries.len().min(LIST_MAX);
            let exhausted = all_tried && ending != Ending::Abandoned;
            Outcome {
                failed,
                server: Server::Nobody,
                exhausted,
            }
        }
    }
}

#[cfg(test)]
mod tests;
