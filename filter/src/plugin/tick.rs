//! A VM's jobs, ten times a second: make late changes, publish and merge loads, and for the one VM that holds the
//! lease the jobs of all: gauges, tidying, verdicts, the exchange with the sidecar.

use super::sidecar::SidecarLink;
use super::vm::Vm;
use super::{apply, host, leader, shared};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::snapshot::Snapshot;
use crate::fleet::heartbeat::{self, Heartbeat, LOADS_MAX, SLOTS_MAX};
use crate::fleet::identity::Identity;

/// Does the jobs; called for the root in charge of the VM alone.
pub fn run(vm: &Vm, snapshot: &Snapshot, sidecar: &mut SidecarLink) {
    let now = host::now();
    if vm.identity.get() == Identity::default() {
        match shared::draw_identity(vm.draw()) {
            Some(identity) => vm.identity.set(identity),
            None => return,
        }
    }
    let stepped = vm.clock.borrow_mut().tick(now);
    apply::late_changes(vm);
    publish(vm, snapshot, now);
    let heartbeats = read_heartbeats(now);
    merge(vm, &heartbeats, now);
    let holds_lease = leader::claim_lease(vm, snapshot.revision, now);
    let agree = heartbeat::all_run(&heartbeats, snapshot.revision, now);
    let settled = agree && vm.clock.borrow().is_steady();
    forget_drained(vm, &heartbeats, settled, now, holds_lease);
    if holds_lease {
        leader::record_gauges(vm, snapshot, settled, now);
        sidecar.expire_verdicts(vm, snapshot, stepped, now);
        sidecar.look_at(&heartbeats, snapshot.revision, now);
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
    let drained = drain.take_drained(heartbeats, settled, now);
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
    let heartbeats = read_heartbeats(now);
    if heartbeats
        .iter()
        .all(|heartbeat| heartbeat.revision != snapshot.revision)
    {
        host::set_shared(keys::REJECTED, &[]);
    }
}

/// Writes this worker's heartbeat. A VM that serves no requests is no worker and has none.
fn publish(vm: &Vm, snapshot: &Snapshot, now: WallTime) {
    if !vm.is_serving() {
        return;
    }
    let heartbeat = {
        let loads = vm.loads.borrow();
        let loads = loads.iter().filter_map(|load| load.report(now)).collect();
        let drain = vm.drain.borrow();
        let mut turns = vm.turns.borrow_mut();
        let (told, holds_leaving) = turns.choose(loads, || drain.keys(), LOADS_MAX);
        let Identity { vm: id, process } = vm.identity.get();
        Heartbeat {
            vm: id,
            at: now,
            revision: snapshot.revision,
            process,
            picked_at: vm.picked_at.get(),
            holds_leaving: holds_leaving && (told.len() < LOADS_MAX || drain.is_complete()),
            loads: told,
        }
    };
    let record = heartbeat.encode();
    let kept = vm
        .slot
        .get()
        .filter(|slot| write_own(*slot, heartbeat.vm, &record));
    if kept.is_none() {
        vm.slot
            .set((0..SLOTS_MAX).find(|slot| claim_slot(vm, *slot, &record, now)));
    }
}

/// Writes a heartbeat into the slot that holds this VM's last one; `false` when another took it.
fn write_own(slot: u32, vm: u64, record: &[u8]) -> bool {
    let is_own = |last: &[u8]| Heartbeat::decode(last).is_some_and(|last| last.vm == vm);
    write_if(slot, record, is_own)
}

fn claim_slot(vm: &Vm, slot: u32, record: &[u8], now: WallTime) -> bool {
    let steady = vm.clock.borrow().is_steady();
    // One that cannot be read may be a newer module's.
    let is_over = |last: &[u8]| Heartbeat::decode(last).is_some_and(|last| !last.is_live(now));
    write_if(slot, record, |last| {
        last.is_empty() || steady && is_over(last)
    })
}

fn write_if(slot: u32, record: &[u8], may_write: impl Fn(&[u8]) -> bool) -> bool {
    let key = keys::heartbeat(slot);
    let (last, version) = host::shared(&key);
    may_write(&last) && host::replace_shared(&key, record, version)
}

/// All heartbeats; slots are taken from the first on, so the first that never was ends the search.
fn read_heartbeats(now: WallTime) -> Vec<Heartbeat> {
    let mut heartbeats = Vec::new();
    for slot in 0..SLOTS_MAX {
        let (record, version) = host::shared(&keys::heartbeat(slot));
        if version == 0 {
            break;
        }
        heartbeats.extend(Heartbeat::decode(&record).filter(|heartbeat| heartbeat.runs(now)));
    }
    heartbeats
}

fn merge(vm: &Vm, heartbeats: &[Heartbeat], now: WallTime) {
    let others = heartbeats
        .iter()
        .filter(|heartbeat| heartbeat.vm != vm.identity.get().vm && heartbeat.is_live(now));
    let reports = others.flat_map(|heartbeat| heartbeat.loads.iter().copied());
    vm.loads.borrow().merge(reports, now);
}
