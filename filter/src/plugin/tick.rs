//! A VM's jobs, ten times a second: make late changes, give tokens back, publish and merge loads, and for
//! the one VM that holds the lease the jobs of all: gauges, tidying, verdicts, the exchange with the sidecar.

use super::sidecar::SidecarLink;
use super::vm::Vm;
use super::{apply, heartbeats, host, leader, shared};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::snapshot::Snapshot;
use crate::fleet::heartbeat::{self, Heartbeat};
use crate::fleet::identity::Identity;
use crate::fleet::round::REPORTS_PER_TICK;

/// Does the jobs; called for the root in charge of the VM alone.
pub fn run(vm: &Vm, snapshot: &Snapshot, sidecar: &mut SidecarLink) {
    let now = host::now();
    if vm.picked.take() {
        vm.picked_at.set(now);
    }
    if vm.identity.get() == Identity::default() {
        match shared::draw_identity(vm.draw()) {
            Some(identity) => vm.identity.set(identity),
            None => return,
        }
    }
    let stepped = vm.clock.borrow_mut().tick(now);
    apply::late_changes(vm);
    apply::give_tokens_back(vm, now);
    heartbeats::publish(vm, snapshot, now);
    let workers = heartbeats::read(now);
    let heartbeats = &workers.heartbeats;
    let agree = heartbeat::all_run(heartbeats, snapshot.revision, now);
    let settled = agree && vm.clock.borrow().is_steady();
    workers.merge(vm, settled, REPORTS_PER_TICK, now);
    let holds_lease = leader::claim_lease(vm, snapshot.revision, now);
    forget_drained(vm, heartbeats, settled, now, holds_lease);
    if holds_lease {
        leader::record_gauges(vm, snapshot, settled, now);
        sidecar.expire_verdicts(vm, snapshot, stepped, now);
        sidecar.look_at(heartbeats, snapshot.revision, now);
        sidecar.post_if_due(vm, snapshot, now);
    }
}

/// Forgets the draining endpoints whose last stream has ended, as every VM does; the one with the
/// lease says so.
fn forget_drained(
    vm: &Vm,
    heartbeats: &[Heartbeat],
    settled: bool,
    now: WallTime,
    holds_lease: bool,
) {
    let mut drain = vm.drain.borrow_mut();
    let settled_at = vm.round.borrow().settled_at().filter(|_| settled);
    let drained = drain.take_drained(heartbeats, settled_at, now);
    if drained.is_empty() {
        return;
    }
    if holds_lease {
        leader::report_drained(vm, &drained);
    }
    drop(drained);
    vm.loads.borrow_mut().prune();
}

/// Forgets the configuration that was rejected last, when a later one is taken over (AD-20). The
/// main thread takes configurations in their order, a worker its earlier one perhaps after that
/// rejection, and a VM that died once more: but those run it, or others do.
pub fn forget_rejected(vm: &Vm, snapshot: &Snapshot, now: WallTime) {
    let silent = vm.is_serving() || snapshot.exchange.is_none();
    if silent || host::shared(keys::REJECTED).0.is_empty() {
        return;
    }
    let heartbeats = heartbeats::read(now).heartbeats;
    if heartbeats
        .iter()
        .all(|heartbeat| heartbeat.revision != snapshot.revision)
    {
        host::set_shared(keys::REJECTED, &[]);
    }
}
