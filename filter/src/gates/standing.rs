//! The one verdict on an endpoint, and who may be picked because of it.
//!
//! Draining, cordoned and removed endpoints are in no [`crate::cluster::pool::Group`] and so never come
//! here: that is the operator's word, and it beats everything below.

use std::cell::RefCell;

use crate::base::keyed;
use crate::cluster::Cluster;
use crate::gates::Gates;

/// Where an endpoint stands now. Backing off beats unhealthy, so that fail-open cannot hammer a
/// backend that has just failed (GT-6): from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is held against it.
    Ready,
    /// The sidecar's verdict is against it.
    Unhealthy,
    /// It failed, and its window is not over.
    BackingOff,
}

/// Who may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The ready.
    Ready,
    /// The unhealthy, when nobody is ready (GT-5).
    FailOpen,
}

impl Admission {
    /// Whether an endpoint of this standing may be picked.
    pub fn admits(self, standing: Standing) -> bool {
        match self {
            Admission::Ready => standing == Standing::Ready,
            Admission::FailOpen => standing != Standing::BackingOff,
        }
    }
}

/// What is held against one endpoint because of one of its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Index of the endpoint.
    pub endpoint: u32,
    /// Failures counted since the last success.
    pub tries: u8,
    unhealthy: bool,
    failed_ns: u64,
    until_ns: u64,
}

impl Mark {
    /// The verdict.
    pub fn standing(&self, now_ns: u64) -> Standing {
        let gate = crate::gates::Gate {
            key: 0,
            tries: self.tries,
            unhealthy: self.unhealthy,
            failed_ns: self.failed_ns,
            until_ns: self.until_ns,
        };
        match (gate.backs_off(now_ns), self.unhealthy) {
            (true, _) => Standing::BackingOff,
            (false, true) => Standing::Unhealthy,
            (false, false) => Standing::Ready,
        }
    }
}

/// The marks of one cluster's endpoints, sorted by endpoint; those without one are ready. Where ids
/// share an address the worst counts (LB-18).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Marks {
    marks: Vec<Mark>,
    /// The latch of fail-open, as the gates had it.
    pub fail_open: bool,
}

impl Marks {
    /// Looks up whom the gates speak of; gates of strangers are passed over.
    pub fn new(cluster: &Cluster, gates: &Gates) -> Self {
        let mut marks: Vec<Mark> = Vec::new();
        for gate in gates.iter() {
            let Some(backend) = cluster.backend_by_key(gate.key) else {
                continue;
            };
            marks.push(Mark {
                endpoint: backend.endpoint,
                tries: gate.tries,
                unhealthy: gate.unhealthy,
                failed_ns: gate.failed_ns,
                until_ns: gate.until_ns,
            });
        }
        // By endpoint, the most tries first.
        let place = |mark: &Mark| (u64::from(mark.endpoint) << 8) | u64::from(u8::MAX ^ mark.tries);
        let mut order: Vec<(u64, u32)> = (0..)
            .zip(&marks)
            .map(|(index, mark)| (place(mark), index))
            .collect();
        keyed::sort(&mut order);
        let at = |index: u32| usize::try_from(index).ok().and_then(|i| marks.get(i));
        let marks: Vec<Mark> = order.iter().filter_map(|(_, i)| at(*i).copied()).collect();
        Marks {
            marks,
            fail_open: gates.fail_open,
        }
    }

    /// The mark of an endpoint; of several, the one with the most tries.
    pub fn of(&self, endpoint: u32) -> Option<&Mark> {
        self.all_of(endpoint).next()
    }

    fn all_of(&self, endpoint: u32) -> impl Iterator<Item = &Mark> {
        let start = self.marks.partition_point(|mark| mark.endpoint < endpoint);
        let from = self.marks.get(start..).unwrap_or_default();
        from.iter()
            .take_while(move |mark| mark.endpoint == endpoint)
    }

    /// The verdict on an endpoint.
    pub fn standing(&self, endpoint: u32, now_ns: u64) -> Standing {
        if self.marks.is_empty() {
            return Standing::Ready;
        }
        let each = self.all_of(endpoint).map(|mark| mark.standing(now_ns));
        each.max().unwrap_or(Standing::Ready)
    }

    /// How long an endpoint's window still lasts, nanoseconds; 0 where it is in none.
    pub fn wait_ns(&self, endpoint: u32, now_ns: u64) -> u64 {
        self.all_of(endpoint)
            .filter(|mark| mark.standing(now_ns) == Standing::BackingOff)
            .map(|mark| mark.until_ns.saturating_sub(now_ns))
            .max()
            .unwrap_or(0)
    }

    /// Whether nothing is held against anybody.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The endpoints that have marks, each once.
    pub fn endpoints(&self) -> impl Iterator<Item = u32> {
        let same = |a: &Mark, b: &Mark| a.endpoint == b.endpoint;
        let runs = self.marks.chunk_by(same);
        runs.filter_map(|run| run.first()).map(|mark| mark.endpoint)
    }
}

/// The marks of the blob that was read last, so that an unchanged blob is decoded once.
#[derive(Debug, Default)]
pub(crate) struct View(RefCell<(u32, Marks)>);

impl Cluster {
    /// Gives `use_marks` the marks that a blob of gates means for this cluster. `cas` is the blob's
    /// version in shared data, never 0: an unchanged blob is not decoded again.
    pub fn with_marks<R>(&self, blob: &[u8], cas: u32, use_marks: impl FnOnce(&Marks) -> R) -> R {
        if blob.is_empty() {
            return use_marks(&Marks::default());
        }
        // Taken out while in use: a use within a use finds nothing cached, and no borrow can panic.
        let (seen, marks) = self.view.0.take();
        let marks = if seen == cas {
            marks
        } else {
            Marks::new(self, &Gates::decode(blob))
        };
        let result = use_marks(&marks);
        self.view.0.replace((cas, marks));
        result
    }
}
