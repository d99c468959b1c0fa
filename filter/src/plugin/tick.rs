//! A VM's jobs, ten times a second: publish and merge loads, and for the one VM that holds the
//! lease the jobs of all: gauges, tidying, verdicts, the exchange with the sidecar.

use super::sidecar::Exchange;
use super::vm::Vm;
use super::{host, leader, shared};
use crate::base::keys;
use crate::cluster::snapshot::Registry;
use crate::fleet::heartbeat::{Card, HEARTBEAT_NS, Lease, SLOTS_MAX, WORDS_MAX};

/// Does the jobs; called for the root in charge of the VM alone.
pub fn run(vm: &Vm, registry: &Registry, exchange: &mut Exchange) {
    let now_ns = host::now_ns();
    if vm.id.get() == 0 {
        match shared::draw_vm_id() {
            Some(id) => vm.id.set(id),
            None => return,
        }
    }
    publish(vm, registry, now_ns);
    let cards = read_cards(now_ns);
    merge(vm, &cards, now_ns);
    let holds_lease = claim_lease(vm, now_ns);
    leader::report_drained(vm, registry, &cards, now_ns, holds_lease);
    if holds_lease {
        leader::record(vm, registry, exchange, now_ns);
        exchange.expire_verdicts(vm, registry, now_ns);
        exchange.look_at(&cards, now_ns);
        exchange.post_if_due(vm, registry, now_ns);
    }
}

/// Claims the lease or renews it; `true` while this VM holds it.
pub fn claim_lease(vm: &Vm, now_ns: u64) -> bool {
    let (record, version) = host::shared(keys::LEASE);
    let (held, id) = (Lease::decode(&record), vm.id.get());
    let claim = Lease::claim(held, id, now_ns);
    let claimed =
        claim.is_some_and(|lease| host::replace_shared(keys::LEASE, &lease.encode(), version));
    if claimed && held.is_none_or(|held| held.vm != id) {
        // Another VM may have done the jobs since this one did.
        vm.recorded.borrow_mut().doubt();
    }
    claimed
}

/// Forgets the configuration that was refused last, when a later one is taken over (AD-20). The main
/// thread takes configurations in their order, a worker its earlier one perhaps after that refusal,
/// and a VM that died once more: but those run it, or others do.
pub fn forget_refused(vm: &Vm, registry: &Registry, now_ns: u64) {
    let silent = vm.is_serving() || registry.exchange.is_none();
    if silent || host::shared(keys::REFUSED).0.is_empty() {
        return;
    }
    let cards = read_cards(now_ns);
    if cards.iter().all(|card| card.revision != registry.revision) {
        host::set_shared(keys::REFUSED, &[]);
    }
}

/// Writes this worker's card. A VM that serves no requests is no worker and has none.
fn publish(vm: &Vm, registry: &Registry, now_ns: u64) {
    if !vm.is_serving() {
        return;
    }
    let loads = vm.loads.borrow();
    let words = loads.iter().filter_map(|load| {
        let (in_flight, estimate_ns) = load.word(now_ns)?;
        Some((load.key, in_flight, estimate_ns))
    });
    let card = Card {
        vm: vm.id.get(),
        at_ns: now_ns,
        revision: registry.revision,
        words: words.take(WORDS_MAX).collect(),
    };
    let record = card.encode();
    let kept = vm
        .slot
        .get()
        .filter(|slot| write_own(*slot, &card, &record));
    if kept.is_none() {
        vm.slot
            .set((0..SLOTS_MAX).find(|slot| claim_slot(*slot, &record, now_ns)));
    }
}

/// Writes the card into the slot that holds this VM's last one; `false` when another took it.
fn write_own(slot: u32, card: &Card, record: &[u8]) -> bool {
    let key = keys::card(slot);
    let (last, version) = host::shared(&key);
    let own = Card::decode(&last).is_some_and(|last| last.vm == card.vm);
    own && host::replace_shared(&key, record, version)
}

fn claim_slot(slot: u32, record: &[u8], now_ns: u64) -> bool {
    let key = keys::card(slot);
    let (last, version) = host::shared(&key);
    let free =
        Card::decode(&last).is_none_or(|last| now_ns.saturating_sub(last.at_ns) >= HEARTBEAT_NS);
    free && host::replace_shared(&key, record, version)
}

/// All cards; slots are taken from the first on, so the first that never was ends the search.
fn read_cards(now_ns: u64) -> Vec<Card> {
    let mut cards = Vec::new();
    for slot in 0..SLOTS_MAX {
        let (record, version) = host::shared(&keys::card(slot));
        if version == 0 {
            break;
        }
        cards.extend(Card::decode(&record).filter(|card| card.runs(now_ns)));
    }
    cards
}

fn merge(vm: &Vm, cards: &[Card], now_ns: u64) {
    let others = cards
        .iter()
        .filter(|card| card.vm != vm.id.get() && card.is_live(now_ns));
    let words = others.flat_map(|card| card.words.iter().copied());
    vm.loads.borrow().merge(words, now_ns);
}
