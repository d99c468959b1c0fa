//! The heartbeats of an Envoy's workers: each writes its own, and reads the others'.

use super::host;
use super::vm::Vm;
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::snapshot::Snapshot;
use crate::fleet::heartbeat::{CLIENTS_MAX, Heartbeat, LOADS_MAX, SLOTS_MAX};
use crate::fleet::identity::Identity;

/// Writes this worker's heartbeat. A VM that serves no requests is no worker and has none.
pub fn publish(vm: &Vm, snapshot: &Snapshot, now: WallTime) {
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
            clients: vm.clients.borrow().reports(CLIENTS_MAX),
        }
    };
    let told = heartbeat.encode();
    let heartbeat = heartbeat.alone();
    let record = heartbeat.encode();
    let kept = vm
        .slot
        .get()
        .filter(|slot| write_own(*slot, heartbeat.vm, &record));
    let claimed = || (0..SLOTS_MAX).find(|slot| claim_slot(vm, *slot, &record, now));
    vm.slot.set(kept.or_else(claimed));
    if let Some(slot) = vm.slot.get() {
        host::set_shared(&keys::told(slot), &told);
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

/// Reads all heartbeats, by their slots; those are taken from the first on, so the first that never was
/// ends the search. Of a worker that is too busy to write, with what it told last.
pub fn read(now: WallTime) -> Workers {
    let mut workers = Workers::default();
    for slot in 0..SLOTS_MAX {
        let (record, version) = host::shared(&keys::heartbeat(slot));
        if version == 0 {
            break;
        }
        let Some(heartbeat) = Heartbeat::decode(&record).filter(|it| it.runs(now)) else {
            continue;
        };
        workers.slots.push(slot);
        workers.heartbeats.push(match heartbeat.is_live(now) {
            true => heartbeat,
            false => told(slot, &heartbeat),
        });
    }
    workers
}

/// What a worker tells. One of an older release tells it with its heartbeat.
fn told(slot: u32, heartbeat: &Heartbeat) -> Heartbeat {
    let told = Heartbeat::decode(&host::shared(&keys::told(slot)).0);
    let own = told.filter(|told| told.vm == heartbeat.vm);
    own.unwrap_or_else(|| heartbeat.clone())
}

/// The workers of this Envoy.
#[derive(Default)]
pub struct Workers {
    /// Their heartbeats.
    pub heartbeats: Vec<Heartbeat>,
    /// Where these stand.
    slots: Vec<u32>,
}

impl Workers {
    /// Takes in what the others tell, `room` reports of it and those of one worker more; it counts once
    /// all have been read. `settled`: all run one configuration.
    pub fn merge(&self, vm: &Vm, settled: bool, room: usize, now: WallTime) {
        let own = vm.identity.get().vm;
        let all = self.slots.iter().copied().zip(&self.heartbeats);
        let others = all.filter(|(_, worker)| worker.is_live(now) && worker.vm != own);
        let others: Vec<(u32, &Heartbeat)> = others.collect();
        let mut round = vm.round.borrow_mut();
        round.begin(others.iter().map(|(slot, _)| *slot), settled, now);
        let mut left = room;
        while left > 0
            && let Some(slot) = round.take_next()
        {
            // One that has gone since tells nothing.
            let Some((_, heartbeat)) = others.iter().find(|(other, _)| *other == slot) else {
                continue;
            };
            let told = told(slot, heartbeat);
            if !told.holds_leaving {
                round.note_cut();
            }
            let reports = told.loads.len().saturating_add(told.clients.len());
            left = left.saturating_sub(reports);
            vm.loads.borrow().gather(told.loads.into_iter());
            vm.clients.borrow_mut().gather(told.clients.into_iter());
        }
        if round.end() {
            let count = u32::try_from(others.len()).unwrap_or(SLOTS_MAX);
            vm.loads.borrow().turn_over(now);
            vm.clients.borrow_mut().turn_over(count);
            vm.knows_others.set(true);
        }
    }
}
