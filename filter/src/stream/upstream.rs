//! The attempts of a stream as the module sees them upstream, between the router and a backend.
//!
//! There it learns what the list's arithmetic cannot prove: an answer that Envoy retried, and why an
//! attempt failed. An attempt that ends without an answer proves nothing yet: the client may have left,
//! or a hedged one was quicker. Only that Envoy goes on after it, or answers itself, makes it evidence.

use std::rc::Rc;

use super::effects::Effects;
use super::trails::{Trail, Trails};
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::gates::evidence::{Met, Status};

/// What Envoy's own timer may be early by, nanoseconds.
const TIMER_SLACK_NS: u64 = 5_000_000;

/// One attempt.
pub struct Attempt {
    /// Its stream's, once that was looked for.
    trail: Option<Rc<Trail>>,
    /// Where some stream's attempts have a timeout.
    began: Option<WallTime>,
    stage: Stage,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// By an error. Where that says nothing against its backend, the stream's response shows what becomes
    /// of it.
    Answered,
    /// There is nothing more to be learnt of it.
    Over,
}

/// An answer that says something against its backend.
pub struct AttemptAnswer {
    /// Its endpoint, as Envoy spells it.
    pub address: Option<Vec<u8>>,
    /// What it says.
    pub status: Status,
    /// Attempts of the stream that have begun.
    pub begun: usize,
}

/// What Envoy says of an attempt that has ended.
pub struct AttemptEnd {
    /// Its endpoint, as Envoy spells it.
    pub address: Option<Vec<u8>>,
    /// No connection could be made.
    pub connect_failed: bool,
    /// Attempts of the stream that have begun; only asked where there was no answer.
    pub begun: usize,
    /// Wall clock; only asked where attempts have a timeout.
    pub now: Option<WallTime>,
}

impl Attempt {
    /// An attempt begins; when, is only asked where some stream's attempts have a timeout.
    pub fn begin(began: Option<WallTime>) -> Self {
        Attempt {
            trail: None,
            began,
            stage: Stage::Waiting,
        }
    }

    /// Looks for its stream's trail, once, while something may be learnt.
    pub fn look(&mut self, find: impl FnOnce() -> Option<Rc<Trail>>) {
        if self.trail.is_none() && self.stage == Stage::Waiting {
            self.trail = find();
            if self.trail.is_none() {
                self.stage = Stage::Over;
            }
        }
    }

    /// It has begun. The one before it, if it was not answered, has failed then.
    pub fn follow(&mut self) -> Option<Effects> {
        let mut trail = self.trail.as_ref()?.0.borrow_mut();
        let open = trail.as_mut()?;
        open.awaits.take()?;
        let failed = open.seen.unanswered.take();
        let failed = failed.filter(|_| !open.seen.hedged);
        failed.and_then(|evidence| open.tell(evidence))
    }

    /// It is answered by something else than an error, which Envoy retries in no case.
    pub fn pass(&mut self) {
        self.stage = Stage::Over;
    }

    /// The cluster, while an answer would say something.
    pub fn awaits_answer(&self) -> Option<Rc<Cluster>> {
        let trail = self.trail.as_ref()?;
        trail.cluster().filter(|_| self.stage == Stage::Waiting)
    }

    /// It is answered by an error. `said` is what that says against its backend.
    pub fn respond(&mut self, said: Option<AttemptAnswer>) -> Option<Effects> {
        let mut trail = self.trail.as_ref()?.0.borrow_mut();
        let open = trail.as_mut().filter(|_| self.stage == Stage::Waiting)?;
        self.stage = Stage::Answered;
        let evidence = said.and_then(|said| {
            open.compare(said.begun);
            open.evidence(said.address.as_deref(), Met::Status(said.status))
        });
        open.over = open.over.saturating_add(1);
        open.tell(evidence?)
    }

    /// Whether it has not been answered.
    pub fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// Whether its end says something: the stream's response has not begun, and it was not answered,
    /// or its answer was retried and may end what is counted against its backend.
    pub fn matters(&self) -> bool {
        let trail = self.trail.as_ref().map(|trail| trail.0.borrow());
        let open = trail.as_deref().and_then(Option::as_ref);
        open.is_some_and(|open| match self.stage {
            Stage::Waiting => true,
            Stage::Answered => open.had_counts,
            Stage::Over => false,
        })
    }

    /// Whether how long it lasted says something.
    pub fn has_timeout(&self) -> bool {
        self.began.is_some() && self.is_waiting()
    }

    /// It has ended.
    pub fn end(&mut self, end: &AttemptEnd, trails: &Trails) -> Option<Effects> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let mut trail = self.trail.as_ref()?.0.borrow_mut();
        let open = trail.as_mut()?;
        let what = match stage {
            Stage::Answered => Met::Served,
            Stage::Waiting if end.connect_failed => Met::Connect,
            Stage::Waiting => unanswered(self.began.zip(end.now), &open.cluster),
            Stage::Over => return None,
        };
        let evidence = open.evidence(end.address.as_deref(), what);
        if stage == Stage::Waiting {
            open.compare(end.begun);
            open.over = open.over.saturating_add(1);
            open.seen.unanswered = evidence.filter(|_| !end.connect_failed);
            open.awaits = open.seen.unanswered.map(|_| trails.awaiting());
        }
        match end.connect_failed || stage == Stage::Answered {
            true => open.tell(evidence?),
            false => None,
        }
    }
}

/// What an attempt met that was not answered: nothing in time, else a connection that ended.
fn unanswered(times: Option<(WallTime, WallTime)>, cluster: &Cluster) -> Met {
    let allowed_ns = cluster.retry.per_try_timeout_ns;
    let is_due = |(began, now): (WallTime, WallTime)| {
        allowed_ns > 0 && now.since(began) >= allowed_ns.saturating_sub(TIMER_SLACK_NS)
    };
    match times.is_some_and(is_due) {
        true => Met::Timeout,
        false => Met::Reset,
    }
}

#[cfg(test)]
mod tests;
