//! Shared data that several workers change: read, decide, replace, again when outrun.

use super::host;
use super::metrics::{Counter, Metrics};
use crate::base::hash::ClusterKey;
use crate::base::keys;
use crate::cluster::Cluster;
use crate::fleet::identity::Identity;
use crate::gates::Gates;
use crate::gates::event::Event;

/// Tries before a change is late. A loop must end: there is no fuel in the VM.
const CAS_ATTEMPTS_MAX: u32 = 4;

/// The one compare-and-swap loop: replaces a record by what `change` makes of it. `false` when it
/// was outrun too often.
fn compare_and_swap(key: &str, change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> bool {
    (0..CAS_ATTEMPTS_MAX).any(|_| {
        let (record, version) = host::shared(key);
        let changed = change(&record);
        changed == record || host::replace_shared(key, &changed, version)
    })
}

/// Changes the gates of a cluster and reports the events of the change that went through; `false`
/// when it was outrun too often, which is counted.
pub fn change_gates(
    cluster: &Cluster,
    metrics: &Metrics,
    mut change: impl FnMut(&mut Gates) -> Vec<Event>,
) -> bool {
    let mut events = Vec::new();
    let changed = compare_and_swap(&cluster.gates_key, &mut |blob| {
        let mut gates = Gates::decode(blob);
        events = change(&mut gates);
        gates.encode()
    });
    if changed {
        metrics.report(cluster, &events);
    } else {
        metrics.count(cluster, Counter::Conflict);
    }
    changed
}

/// Changes the gates of a cluster that this configuration does not know (yet): what that means for
/// the cluster cannot be said here, so there are no events.
pub fn change_gates_unknown(cluster: ClusterKey, change: impl Fn(&mut Gates)) -> bool {
    compare_and_swap(&keys::gates(cluster), &mut |blob| {
        let mut gates = Gates::decode(blob);
        change(&mut gates);
        gates.encode()
    })
}

/// Gives this VM an identity that no other of this Envoy process has; `None` when outrun too often.
pub fn draw_identity(drawn: u64) -> Option<Identity> {
    let mut next = Identity::default();
    let given = compare_and_swap(keys::IDENTITY, &mut |last| {
        next = Identity::next(last, drawn);
        next.encode()
    });
    given.then_some(next)
}
