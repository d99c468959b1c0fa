//! The arithmetic of lists: what each attempt met, as far as Envoy's few words prove it.
//!
//! Envoy tells only the last endpoint and the number of attempts. The list's own arithmetic gives
//! the rest: attempt k went to entry k, so entries before the last one did not answer.

use crate::balance::list::{LIST_MAX, List};
use crate::cluster::{Cluster, EndpointIndex};
use crate::gates::evidence::{Evidence, Met, Status};

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
#[derive(Debug, Clone)]
pub struct Answer {
    /// The last attempt's endpoint, as Envoy spells it.
    pub address: Option<Vec<u8>>,
    /// Attempts made.
    pub attempts: usize,
    /// How the last one ended.
    pub ending: Ending,
    /// How long the stream waited for a new connection, nanoseconds; only asked where the cluster
    /// measures that.
    pub connection_time_ns: Option<u64>,
    /// It says that the backend has too much to do; only asked where the cluster cools backends down.
    pub status: Option<Status>,
}

/// What a stream's attempts prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Endpoints that were passed over: they did not answer.
    passed: List,
    /// The last attempt's, where it proves something.
    last: Option<Evidence>,
    /// An endpoint answered that is not in the list: Envoy's fallback policy chose it.
    pub spilled: bool,
    /// Every entry was tried and none answered (RT-6).
    pub exhausted: bool,
}

impl Outcome {
    /// One for each attempt that met something, in their order.
    pub fn evidence(&self) -> impl Iterator<Item = Evidence> {
        let unknown = |endpoint: &EndpointIndex| Evidence {
            endpoint: *endpoint,
            what: Met::Unknown,
        };
        self.passed.entries().iter().map(unknown).chain(self.last)
    }

    /// The endpoint that answered.
    pub fn served(&self) -> Option<EndpointIndex> {
        self.last
            .filter(|last| last.what.is_answer())
            .map(|last| last.endpoint)
    }
}

/// Reads an answer against the list. `transport_only` says that nothing but transport failures was
/// retried; elsewhere an entry that was passed over may have answered.
pub fn judge(cluster: &Cluster, list: &List, transport_only: bool, answer: &Answer) -> Outcome {
    let entries = list.entries();
    // The first of a short list may have stood once more at its end.
    let mut sent = *list;
    if let Some(first) = list.first().filter(|_| list.len() < cluster.retry.attempts) {
        sent.push(first);
    }
    let Some(place) = place_of(cluster, sent.entries(), answer) else {
        return Outcome {
            spilled: answer.address.is_some() && answer.ending == Ending::Answered,
            ..Outcome::default()
        };
    };
    let last = sent
        .entries()
        .get(place)
        .copied()
        .unwrap_or(EndpointIndex::NONE);
    let mut passed = List::default();
    // Fewer attempts: entries were unknown to Envoy and skipped. More: hedging. Neither proves
    // anything of the entries before.
    if transport_only && answer.attempts == place.saturating_add(1) {
        for entry in entries.iter().take(place).filter(|entry| **entry != last) {
            passed.push(*entry);
        }
    }
    let what = match answer.ending {
        Ending::Answered => Some(answer.status.map_or(Met::Served, Met::Status)),
        Ending::ConnectFailed => Some(Met::Connect),
        Ending::Unanswered | Ending::Abandoned => None,
    };
    let all_tried = answer.attempts >= entries.len().min(LIST_MAX);
    Outcome {
        passed,
        last: what.map(|what| Evidence {
            endpoint: last,
            what,
        }),
        spilled: false,
        exhausted: all_tried && matches!(answer.ending, Ending::ConnectFailed | Ending::Unanswered),
    }
}

/// Where the last attempt's endpoint stands in the list: at the attempt's own place, else at its
/// first one.
fn place_of(cluster: &Cluster, entries: &[EndpointIndex], answer: &Answer) -> Option<usize> {
    let address = answer.address.as_deref()?;
    let is_at = |place: &usize| {
        let endpoint = entries.get(*place).and_then(|e| cluster.endpoint(*e));
        endpoint.is_some_and(|endpoint| endpoint.address.as_bytes() == address)
    };
    let own = Some(answer.attempts.saturating_sub(1)).filter(is_at);
    own.or_else(|| (0..entries.len()).find(is_at))
}

#[cfg(test)]
mod tests;
