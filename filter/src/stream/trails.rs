//! What both roles of the module know of a stream's attempts, from its pick until its response begins or
//! it ends.

use std::cell::RefCell;
use std::rc::Rc;

use super::attempts::{Outcome, Seen};
use super::effects::Effects;
use crate::balance::list::List;
use crate::base::hash::KeyMap;
use crate::base::time::WallTime;
use crate::cluster::{Cluster, EndpointIndex};
use crate::gates::evidence::{Evidence, Met};

/// A stream's. Streams that were not picked have none: shadows, calls of other filters.
pub struct Trail(pub(super) RefCell<Option<Open>>);

/// The trail of a stream whose response is awaited.
pub(super) struct Open {
    pub cluster: Rc<Cluster>,
    list: List,
    picked_at: WallTime,
    /// Some entry had something counted against it: its success is news.
    pub had_counts: bool,
    /// Attempts that were answered with an error, or ended without an answer. After any other answer
    /// there are no more.
    pub over: usize,
    pub seen: Seen,
    /// Held while an attempt was not answered and no other has begun since.
    pub awaits: Option<Rc<()>>,
    /// Held where attempts have a timeout.
    timed: Option<Rc<()>>,
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
            over: 0,
            seen: Seen::default(),
            awaits: None,
            timed: None,
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
    pub fn evidence(&self, address: Option<&[u8]>, what: Met) -> Option<Evidence> {
        let is_there = |entry: &&EndpointIndex| {
            let endpoint = self.cluster.endpoint(**entry);
            endpoint.is_some_and(|endpoint| Some(endpoint.address.as_bytes()) == address)
        };
        let endpoint = *self.list.entries().iter().find(is_there)?;
        Some(Evidence::new(&self.cluster, endpoint, what))
    }

    /// Tells of an endpoint once.
    pub fn tell(&mut self, evidence: Evidence) -> Option<Effects> {
        if self.seen.told.entries().contains(&evidence.endpoint) {
            return None;
        }
        self.seen.told.push(evidence.endpoint);
        let outcome = Outcome::of_one(evidence);
        let pick = (self.picked_at, self.had_counts);
        // Only the downstream role knows all attempts, and pays for them.
        Some(Effects::new(&self.cluster, outcome, pick, 0))
    }

    /// Notes whether two attempts run at once, of so many that have begun.
    pub fn compare(&mut self, begun: usize) {
        self.seen.hedged |= begun.saturating_sub(self.over) > 1;
    }
}

/// The trails of all streams of a VM, by their marks. To look for its own costs an attempt more than
/// all else that it does, so one that goes well never does.
#[derive(Default)]
pub struct Trails {
    by_mark: KeyMap<Rc<Trail>>,
    /// Shared with each that awaits another attempt.
    awaiting: Rc<()>,
    /// Shared with each whose attempts have a timeout.
    timed: Rc<()>,
}

impl Trails {
    /// Takes in the trail of a stream with this mark.
    pub fn add(&mut self, mark: u64, trail: &Rc<Trail>) {
        if let Some(open) = trail.0.borrow_mut().as_mut()
            && open.cluster.retry.per_try_timeout_ns > 0
        {
            open.timed = Some(self.timed.clone());
        }
        self.by_mark.insert(mark, trail.clone());
    }

    /// Forgets it.
    pub fn remove(&mut self, mark: u64) {
        self.by_mark.remove(&mark);
    }

    /// The trail of the stream with this mark.
    pub fn of(&self, mark: u64) -> Option<Rc<Trail>> {
        self.by_mark.get(&mark).cloned()
    }

    /// Whether there is a stream whose next attempt, by beginning, makes evidence of the one before.
    pub fn any_awaits(&self) -> bool {
        Rc::strong_count(&self.awaiting) > 1
    }

    /// Whether there is a stream of which it matters when an attempt begins.
    pub fn any_is_timed(&self) -> bool {
        Rc::strong_count(&self.timed) > 1
    }

    /// What a trail holds while it awaits another attempt.
    pub(super) fn awaiting(&self) -> Rc<()> {
        self.awaiting.clone()
    }
}
