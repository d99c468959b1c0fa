//! Shared data that several workers change: read, decide, replace, again when outrun.

use super::host;
use super::metrics::{Counter, Stats};
use crate::base::keys;
use crate::cluster::Cluster;
use crate::gates::Gates;
use crate::gates::event::Event;

/// Tries before a change is given up and counted. A loop must end: there is no fuel in the VM.
const CAS_ATTEMPTS_MAX: u32 = 16;

/// Changes the gates of a cluster and reports the events of the change that went through; `false`
/// when it was given up.
pub fn change_gates(
    cluster: &Cluster,
    stats: &Stats,
    mut change: impl FnMut(&mut Gates) -> Vec<Event>,
) -> bool {
    for _ in 0..CAS_ATTEMPTS_MAX {
        let (blob, version) = host::shared(&cluster.gates_key);
        let mut gates = Gates::decode(&blob);
        let events = change(&mut gates);
        let changed = gates.encode();
        if changed == blob {
            return true;
        }
        if host::replace_shared(&cluster.gates_key, &changed, version) {
            stats.report(cluster, &events);
            return true;
        }
    }
    stats.count(cluster, Counter::Conflict);
    false
}

/// Changes the gates of a cluster that this configuration does not know (yet): nobody here can say
/// what that means for it, so there are no events.
pub fn change_gates_unknown(cluster_key: u64, change: impl Fn(&mut Gates)) -> bool {
    let key = keys::gates(cluster_key);
    (0..CAS_ATTEMPTS_MAX).any(|_| {
        let (blob, version) = host::shared(&key);
        let mut gates = Gates::decode(&blob);
        change(&mut gates);
        let changed = gates.encode();
        changed == blob || host::replace_shared(&key, &changed, version)
    })
}

/// Draws a number that no other VM of this Envoy process has drawn; `None` when outrun too often.
pub fn draw_vm_id() -> Option<u64> {
    (0..CAS_ATTEMPTS_MAX).find_map(|_| {
        let (last, version) = host::shared(keys::VM_COUNTER);
        let last = last
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let next = last.wrapping_add(1).max(1);
        host::replace_shared(keys::VM_COUNTER, &next.to_le_bytes(), version).then_some(next)
    })
}
