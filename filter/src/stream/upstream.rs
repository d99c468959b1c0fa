//! The attempts of a stream as the module sees them upstream, between the router and a backend.
//!
//! There it learns what the list's arithmetic cannot prove: an answer that Envoy retried, and why an
//! attempt failed. An attempt that ends without an answer proves nothing yet: the client may have left,
//! or a hedged one was quicker. Only that Envoy goes on after it, or answers itself, makes it evidence.

use std::cell::RefCell;
use std::rc::Rc;

use super::attempts::{Outcome, Seen};
use super::effects::Effects;
use crate::balance::list::List;
use crate::base::time::WallTime;
use crate::cluster::{Cluster, EndpointIndex};
use crate::gates::evidence::{Evidence, Met, Status};

/// What Envoy's own timer may be early by, nanoseconds.
const TIMER_SLACK_NS: u64 = 5_000_000;

/// What both roles of the module know of a stream's attempts, from its pick until its response begins
/// or it ends. Streams that were not picked have none: shadows, calls of other filters.
pub struct Trail(RefCell<Option<Open>>);

struct Open {
    cluster: Rc<Cluster>,
    list: List,
    picked_at: WallTime,
    /// Some entry had something counted against it: its success is news.
    had_counts: bool,
    /// Attempts that have begun and neither been answered nor ended.
    running: u32,
    seen: Seen,
}

impl Trail {
    /// The trail of a stream that was picked and has not been sent yet.
    pub(super) fn new(
        cluster: &Rc<Cluster>,
        list: List,
        picked_at: WallTime,
        had_counts: bool,
    ) -> Self {
        Trail(RefCell::new(Some(Open {
            cluster: cluster.clone(),
            list,
            picked_at,
            had_counts,
            running: 0,
            seen: Seen::default(),
        })))
    }

    /// The cluster, until the stream's response begins: from then on nothing is to be learnt.
    pub fn cluster(&self) -> Option<Rc<Cluster>> {
        let open = self.0.borrow();
        open.as_ref().map(|open| open.cluster.clone())
    }

    /// The stream's response begins, or it ends.
    pub(super) fn close(&self) -> Seen {
        let open = self.0.borrow_mut().take();
        open.map(|open| open.seen).unwrap_or_default()
    }
}

impl Open {
    /// What an attempt at an address met; `None` for one from outside the list.
    fn evidence(&self, address: Option<&[u8]>, what: Met) -> Option<Evidence> {
        let is_there = |entry: &&EndpointIndex| {
            let endpoint = self.cluster.endpoint(**entry);
            endpoint.is_some_and(|endpoint| Some(endpoint.address.as_bytes()) == address)
        };
        let endpoint = *self.list.entries().iter().find(is_there)?;
        Some(Evidence::new(&self.cluster, endpoint, what))
    }

    /// Tells of an endpoint once.
    fn tell(&mut self, evidence: Evidence) -> Option<Effects> {
        if self.seen.told.entries().contains(&evidence.endpoint) {
            return None;
        }
        self.seen.told.push(evidence.endpoint);
        let outcome = Outcome::of_one(evidence);
        let pick = (self.picked_at, self.had_counts);
        // Only the downstream role knows all attempts, and pays for them.
        Some(Effects::new(&self.cluster, outcome, pick, 0))
    }
}

/// One attempt.
pub struct Attempt {
    trail: Rc<Trail>,
    /// Where attempts have a timeout.
    began: Option<WallTime>,
    stage: Stage,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// By an answer that says nothing against its backend: what becomes of that, the stream's response
    /// shows.
    Answered,
    /// There is nothing more to be learnt of it.
    Over,
}

/// What Envoy says of an attempt that has ended.
pub struct AttemptEnd {
    /// Its endpoint, as Envoy spells it.
    pub address: Option<Vec<u8>>,
    /// No connection could be made.
    pub connect_failed: bool,
    /// Wall clock; only asked where attempts have a timeout.
    pub now: Option<WallTime>,
}

impl Attempt {
    /// An attempt begins. The one before it, if it was not answered, has failed then. `now` is only
    /// asked where attempts have a timeout.
    pub fn begin(trail: Rc<Trail>, now: impl FnOnce() -> WallTime) -> (Self, Option<Effects>) {
        let (mut began, mut effects) = (None, None);
        if let Some(open) = trail.0.borrow_mut().as_mut() {
            open.seen.hedged |= open.running > 0;
            open.running = open.running.saturating_add(1);
            began = (open.cluster.retry.per_try_timeout_ns > 0).then(now);
            let failed = open.seen.unanswered.take();
            let failed = failed.filter(|_| !open.seen.hedged);
            effects = failed.and_then(|evidence| open.tell(evidence));
        }
        let stage = Stage::Waiting;
        let attempt = Attempt {
            trail,
            began,
            stage,
        };
        (attempt, effects)
    }

    /// The cluster, while an answer would say something.
    pub fn awaits_answer(&self) -> Option<Rc<Cluster>> {
        let waits = self.stage == Stage::Waiting;
        self.trail.cluster().filter(|_| waits)
    }

    /// It is answered. `said` is what the answer says against the backend at an address.
    pub fn respond(&mut self, said: Option<(Option<Vec<u8>>, Status)>) -> Option<Effects> {
        let mut trail = self.trail.0.borrow_mut();
        let open = trail.as_mut().filter(|_| self.stage == Stage::Waiting)?;
        open.running = open.running.saturating_sub(1);
        self.stage = Stage::Answered;
        let (address, status) = said?;
        let evidence = open.evidence(address.as_deref(), Met::Status(status))?;
        self.stage = Stage::Over;
        open.tell(evidence)
    }

    /// Whether its end says something: the stream's response has not begun, and it was not answered,
    /// or its answer was retried and may end what is counted against its backend.
    pub fn matters(&self) -> bool {
        let trail = self.trail.0.borrow();
        trail.as_ref().is_some_and(|open| match self.stage {
            Stage::Waiting => true,
            Stage::Answered => open.had_counts,
            Stage::Over => false,
        })
    }

    /// Whether how long it lasted says something.
    pub fn has_timeout(&self) -> bool {
        self.began.is_some()
    }

    /// It has ended.
    pub fn end(&mut self, end: &AttemptEnd) -> Option<Effects> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let mut trail = self.trail.0.borrow_mut();
        let open = trail.as_mut()?;
        let what = match stage {
            Stage::Answered => Met::Served,
            Stage::Waiting if end.connect_failed => Met::Connect,
            Stage::Waiting => self.unanswered(end.now, &open.cluster),
            Stage::Over => return None,
        };
        let evidence = open.evidence(end.address.as_deref(), what);
        if stage == Stage::Waiting {
            open.running = open.running.saturating_sub(1);
            open.seen.unanswered = evidence.filter(|_| !end.connect_failed);
        }
        match end.connect_failed || stage == Stage::Answered {
            true => open.tell(evidence?),
            false => None,
        }
    }

    /// What it met that was not answered: nothing in time, else a connection that ended.
    fn unanswered(&self, now: Option<WallTime>, cluster: &Cluster) -> Met {
        let lasted = self.began.zip(now).map(|(began, now)| now.since(began));
        let least = cluster
            .retry
            .per_try_timeout_ns
            .saturating_sub(TIMER_SLACK_NS);
        match lasted {
            Some(lasted) if lasted >= least => Met::Timeout,
            _ => Met::Reset,
        }
    }
}

#[cfg(test)]
mod tests;
