//! The arithmetic of lists: what each attempt met, as far as Envoy's few words prove it.
//!
//! Envoy tells only the last endpoint and the number of attempts. The list's own arithmetic gives
//! the rest: attempt k went to entry k, so entries before the last one did not answer.

use crate::balance::list::{LIST_MAX, List};
use crate::cluster::{Cluster, EndpointIndex};
use crate::gates::evidence::{Counts, Evidence, Met, Status};

/// What became of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The endpoint answered, with whatever status.
    Answered,
    /// No connection could be made to it.
    ConnectFailed,
    /// Its connection ended before there was an answer.
    Reset,
    /// It gave no answer in time.
    TimedOut,
    /// There was no answer for another reason. That proves nothing of it.
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

/// What the module saw upstream of a stream's attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Endpoints of which something was evidence already: each counts once.
    pub told: List,
    /// The last attempt ended without an answer; this is evidence if Envoy goes on after it.
    pub unanswered: Option<Evidence>,
    /// Two ran at once: which of them Envoy ends says nothing of its backend.
    pub hedged: bool,
}

/// What a stream's attempts prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Endpoints that were passed over: they did not answer.
    passed: List,
    /// What that is for their back-offs.
    unknown_counts: Counts,
    /// The last attempt's, where it proves something.
    last: Option<Evidence>,
    /// It was given before, by the module's role upstream.
    given: bool,
    /// Whom attempts after the first were sent to.
    pub later: List,
    /// An endpoint answered that is not in the list: Envoy's fallback policy chose it.
    pub spilled: bool,
    /// Every entry was tried and none answered (RT-6).
    pub exhausted: bool,
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome {
            passed: List::default(),
            unknown_counts: Counts::Nothing,
            last: None,
            given: false,
            later: List::default(),
            spilled: false,
            exhausted: false,
        }
    }
}

impl Outcome {
    /// What one attempt met, alone.
    pub(super) fn of_one(evidence: Evidence) -> Self {
        Outcome {
            last: Some(evidence),
            ..Outcome::default()
        }
    }

    /// Takes in what the module saw upstream of the last attempt.
    pub(super) fn settle(&mut self, seen: Seen, ending: Ending) {
        // Where it had not so much time as an attempt may have, the route's was up.
        let was_due = |evidence: &Evidence| match ending {
            Ending::Reset => true,
            Ending::TimedOut => evidence.what == Met::Timeout,
            _ => false,
        };
        self.last = seen.unanswered.filter(was_due).or(self.last);
        let is_unclear = |last: &Evidence| matches!(last.what, Met::Reset | Met::Timeout);
        if seen.hedged && self.last.as_ref().is_some_and(is_unclear) {
            self.last = None;
        }
        let told = |last: &Evidence| seen.told.entries().contains(&last.endpoint);
        self.given = self.last.as_ref().is_some_and(told);
    }

    /// One for each attempt that met something, in their order.
    pub fn evidence(&self) -> impl Iterator<Item = Evidence> {
        let unknown = |endpoint: &EndpointIndex| Evidence {
            endpoint: *endpoint,
            what: Met::Unknown,
            counts: self.unknown_counts,
        };
        self.passed.entries().iter().map(unknown).chain(self.last())
    }

    /// The last attempt's, where nobody has given it before.
    pub(super) fn last(&self) -> Option<Evidence> {
        self.last.filter(|_| !self.given)
    }

    /// Failures count in rows: the last attempt's endpoint goes on with its own, or ends it.
    pub(super) fn count_in_a_row(&mut self, cluster: &Cluster) {
        let consecutive = cluster.passive.consecutive;
        let last = self
            .last
            .as_mut()
            .filter(|_| consecutive > 1 && !self.given);
        let load = last.and_then(|last| Some((cluster.endpoint(last.endpoint)?, last)));
        if let Some((endpoint, last)) = load {
            match last.counts {
                Counts::Success => endpoint.load.succeed(),
                Counts::Failure if last.what.is_passive() => {
                    if endpoint.load.fail() < consecutive {
                        last.counts = Counts::Nothing;
                    }
                }
                Counts::Failure | Counts::Nothing => {}
            }
        }
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
    // The last was asked in any case.
    let known = if answer.attempts == place.saturating_add(1) {
        1
    } else {
        place.max(1)
    };
    let mut later = List::default();
    let asked = sent.entries().get(known..=place).unwrap_or_default();
    asked.iter().for_each(|endpoint| later.push(*endpoint));
    let what = match answer.ending {
        Ending::Answered => Some(answer.status.map_or(Met::Served, Met::Status)),
        Ending::ConnectFailed => Some(Met::Connect),
        Ending::Reset => Some(Met::Reset),
        // Those before it may have left a later one no time.
        Ending::TimedOut if answer.attempts == 1 => Some(Met::Timeout),
        Ending::TimedOut | Ending::Unanswered | Ending::Abandoned => None,
    };
    let all_tried = answer.attempts >= entries.len().min(LIST_MAX);
    Outcome {
        passed,
        unknown_counts: Evidence::new(cluster, last, Met::Unknown).counts,
        last: what.map(|what| Evidence::new(cluster, last, what)),
        given: false,
        later,
        spilled: false,
        exhausted: all_tried && !matches!(answer.ending, Ending::Answered | Ending::Abandoned),
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
