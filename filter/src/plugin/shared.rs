//! Shared data that several workers change: read, decide, replace, again when outrun.

use super::host;
use super::metrics::{Counter, Metrics};
use crate::base::hash::ClusterKey;
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::fleet::identity::Identity;
use crate::gates::Gates;
use crate::gates::buckets::Buckets;
use crate::gates::event::Event;
use crate::stream::{Effects, TOKEN_TRIES_MAX};

/// Tries before a change is late. A loop must end: there is no fuel in the VM.
const CAS_ATTEMPTS_MAX: u32 = 4;

/// The one compare-and-swap loop: replaces a record by what `change` makes of it. `false` when it
/// was outrun too often.
fn compare_and_swap(key: &str, tries: u32, change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> bool {
    (0..tries).any(|_| {
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
    let changed = compare_and_swap(&cluster.gates_key, CAS_ATTEMPTS_MAX, &mut |blob| {
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
    compare_and_swap(&keys::gates(cluster), CAS_ATTEMPTS_MAX, &mut |blob| {
        let mut gates = Gates::decode(blob);
        change(&mut gates);
        gates.encode()
    })
}

/// Replaces a record that still has the version it was read with: `None`, or what stands there now
/// because another worker was faster.
pub fn replace(key: &str, record: &[u8], version: &mut u32) -> Option<Vec<u8>> {
    if host::replace_shared(key, record, *version) {
        return None;
    }
    let newer = host::shared(key);
    *version = newer.1;
    Some(newer.0)
}

/// Takes the tokens of a stream's later attempts.
pub fn pay(effects: &Effects, metrics: &Metrics, now: WallTime) {
    let cluster = &effects.cluster;
    let Some(key) = cluster.buckets_key.as_deref() else {
        return;
    };
    if !compare_and_swap(key, TOKEN_TRIES_MAX, &mut |record| effects.pay(record, now)) {
        metrics.count(cluster, Counter::Pick("unpaid"));
    }
}

/// Gives back what is left of the tokens that were taken in advance; `false` when it was outrun too often:
/// they are kept.
pub fn give_back(cluster: &Cluster, now: WallTime) -> bool {
    let key = cluster.buckets_key.as_deref();
    let key = key.filter(|_| cluster.tokens_ahead().next().is_some());
    let is_back = key.is_none_or(|key| {
        compare_and_swap(key, TOKEN_TRIES_MAX, &mut |record| {
            Buckets::read(record, now).give_back(record, cluster.tokens_ahead())
        })
    });
    if is_back {
        cluster.forget_tokens();
    }
    is_back
}

/// Gives this VM an identity that no other of this Envoy process has; `None` when outrun too often.
pub fn draw_identity(drawn: u64) -> Option<Identity> {
    let mut next = Identity::default();
    let given = compare_and_swap(keys::IDENTITY, CAS_ATTEMPTS_MAX, &mut |last| {
        next = Identity::next(last, drawn);
        next.encode()
    });
    given.then_some(next)
}
