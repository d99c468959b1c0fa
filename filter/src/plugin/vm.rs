//! What all contexts of one VM share; it outlives configurations.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::metrics::Metrics;
use super::{host, shared};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::clients::Clients;
use crate::cluster::load::Loads;
use crate::cluster::snapshot::Snapshot;
use crate::fleet::clock::Clock;
use crate::fleet::drain::Drain;
use crate::fleet::gauges::Gauges;
use crate::fleet::identity::Identity;
use crate::fleet::lease::{Claimant, LeaseWatch};
use crate::fleet::round::Round;
use crate::fleet::telling::Turns;
use crate::gates::heirs;
use crate::gates::late::LateChanges;
use crate::stream::trails::{Trail, Trails};

/// The property of a stream that holds its mark.
const MARK: &str = "pointsman_stream";

/// The state of one VM: a worker, the main thread, or a canary that never serves.
pub struct Vm {
    /// The loads of all endpoints, by identity.
    pub loads: RefCell<Loads>,
    /// The streams of clients that may have so many at most.
    pub clients: RefCell<Clients>,
    /// Which of the other workers are still to be read.
    pub round: RefCell<Round>,
    /// Whether it knows what other workers have told: one that begins with a request has not ticked yet.
    pub knows_others: Cell<bool>,
    /// Metric ids.
    pub metrics: Metrics,
    /// Endpoints that are draining.
    pub drain: RefCell<Drain>,
    /// The clock from tick to tick.
    pub clock: RefCell<Clock>,
    /// Whose loads the next heartbeat tells.
    pub turns: RefCell<Turns>,
    /// Given at the first tick; none until then.
    pub identity: Cell<Identity>,
    /// Whether it has picked since its last tick.
    pub picked: Cell<bool>,
    /// When it picked last, as of its last tick.
    pub picked_at: Cell<WallTime>,
    /// The lease as it sees it.
    pub lease: RefCell<LeaseWatch>,
    /// The slot of this worker's heartbeat.
    pub slot: Cell<Option<u32>>,
    /// Changes of gates that other workers outran.
    pub late: RefCell<LateChanges>,
    /// The clusters that it has taken tokens of in advance.
    pub has_tokens: RefCell<Vec<Rc<Cluster>>>,
    /// The gauges as they were set last.
    pub gauges: RefCell<Gauges>,
    /// Whether held requests get their bodies is known, or was told of, since the last configuration.
    pub bodies_settled: Cell<bool>,
    /// Of the streams whose attempts the module sees upstream.
    pub trails: RefCell<Trails>,
    rng: RefCell<SplitMix64>,
    serving: Cell<bool>,
    /// The roots that live, by the order in which they were configured, with their clusters.
    roots: RefCell<Vec<(u64, Rc<Snapshot>)>>,
    configured: Cell<u64>,
    configured_at: Cell<WallTime>,
}

/// The root that does the VM's jobs: the newest of those that speak with a sidecar, else the newest.
/// A listener's update configures its `default_config` again, behind the sidecar's configuration;
/// that must not end the exchange.
fn in_charge(roots: &[(u64, Rc<Snapshot>)]) -> Option<&(u64, Rc<Snapshot>)> {
    let with_sidecar = roots
        .iter()
        .rev()
        .find(|(_, snapshot)| snapshot.exchange.is_some());
    with_sidecar.or(roots.last())
}

thread_local! {
    static VM: Rc<Vm> = Rc::new(Vm::new());
}

impl Vm {
    /// This VM.
    pub fn here() -> Rc<Vm> {
        VM.with(Rc::clone)
    }

    fn new() -> Self {
        Vm {
            loads: RefCell::default(),
            clients: RefCell::default(),
            round: RefCell::default(),
            knows_others: Cell::new(false),
            metrics: Metrics::default(),
            drain: RefCell::default(),
            clock: RefCell::default(),
            turns: RefCell::default(),
            identity: Cell::default(),
            picked: Cell::new(false),
            picked_at: Cell::default(),
            lease: RefCell::default(),
            slot: Cell::new(None),
            late: RefCell::default(),
            has_tokens: RefCell::default(),
            gauges: RefCell::default(),
            bodies_settled: Cell::new(false),
            trails: RefCell::default(),
            // VMs start at different nanoseconds, so no two workers draw alike (LB-21).
            rng: RefCell::new(SplitMix64::new(host::now().ns())),
            serving: Cell::new(false),
            roots: RefCell::default(),
            configured: Cell::new(0),
            configured_at: Cell::default(),
        }
    }

    /// 64 random bits.
    pub fn draw(&self) -> u64 {
        self.rng.borrow_mut().draw()
    }

    /// Lets `use_rng` draw from this VM's generator.
    pub fn with_rng<R>(&self, use_rng: impl FnOnce(&mut SplitMix64) -> R) -> R {
        use_rng(&mut self.rng.borrow_mut())
    }

    /// Marks the current stream, so that upstream the module knows its attempts. A mark means something
    /// in this VM alone, which dies with all its streams.
    pub fn mark(&self, trail: &Rc<Trail>) -> u64 {
        let mark = self.draw();
        self.trails.borrow_mut().add(mark, trail);
        host::set_number(MARK, mark);
        mark
    }

    /// What belongs to the mark of the current stream. A shadow has none, nor has a call of another filter.
    pub fn marked_trail(&self) -> Option<Rc<Trail>> {
        let mark = host::number(MARK)?;
        self.trails.borrow().of(mark)
    }

    /// Forgets a mark.
    pub fn unmark(&self, mark: u64) {
        self.trails.borrow_mut().remove(mark);
    }

    /// Notes that this VM serves requests: it is a worker's, not the main thread's or a canary.
    pub fn serves(&self) {
        if !self.serving.replace(true) {
            self.rng.borrow_mut().stir(host::now().ns());
        }
    }

    /// Whether this VM has served a request.
    pub fn is_serving(&self) -> bool {
        self.serving.get()
    }

    /// What it says of itself when it claims the lease.
    pub fn claimant(&self, revision: u64) -> Claimant {
        Claimant {
            vm: self.identity.get().vm,
            revision,
            configured_at: self.configured_at.get(),
            picked_at: self.picked_at.get(),
        }
    }

    /// What its roots run, the newest first.
    pub fn snapshots(&self) -> Vec<Rc<Snapshot>> {
        let roots = self.roots.borrow();
        let snapshots = roots.iter().rev().map(|(_, snapshot)| snapshot.clone());
        snapshots.collect()
    }

    /// Takes a configured root in, and gives it its order.
    pub fn enlist(&self, snapshot: &Rc<Snapshot>, now: WallTime) -> u64 {
        let order = self.configured.get().saturating_add(1);
        self.configured.set(order);
        self.configured_at.set(now);
        self.bodies_settled.set(false);
        let mut roots = self.roots.borrow_mut();
        let before = in_charge(&roots).map(|(_, snapshot)| snapshot.clone());
        roots.push((order, snapshot.clone()));
        let after = in_charge(&roots).map(|(_, snapshot)| snapshot.clone());
        drop(roots);
        if let (Some(before), Some(after)) = (before, after)
            && !Rc::ptr_eq(&before, &after)
        {
            let mut drain = self.drain.borrow_mut();
            drain.note(&before, &after, now);
            self.gauges.borrow_mut().note(&before, &after);
            self.pass_gates_on(&before, &after);
        }
        self.loads.borrow_mut().prune();
        order
    }

    /// Lets renamed backends start from what is held against their addresses.
    fn pass_gates_on(&self, before: &Snapshot, after: &Snapshot) {
        for cluster in after.not_shared_with(before) {
            if let Some(before) = before.cluster(cluster.name.as_bytes()) {
                shared::change_gates(cluster, &self.metrics, |gates| {
                    heirs::inherit(before, cluster, gates);
                    Vec::new()
                });
            }
        }
    }

    /// Forgets a root that ended.
    pub fn retire(&self, order: u64) {
        self.roots.borrow_mut().retain(|(root, _)| *root != order);
    }

    /// Whether a root is the one that does this VM's jobs.
    pub fn is_in_charge(&self, order: u64) -> bool {
        in_charge(&self.roots.borrow()).is_some_and(|(root, _)| *root == order)
    }
}
