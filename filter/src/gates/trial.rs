//! One request tries a backend whose window is over, for all others: until it has told, or its time is
//! up, they go elsewhere. Where nobody else is left there are no trials (GT-3).

use super::availability::{is_last, may_eject};
use super::gates::Gates;
use crate::base::time::WallTime;
use crate::cluster::{Cluster, EndpointIndex};

/// How long a trial lasts where attempts have no time of their own, nanoseconds.
const TRIAL_NS: u64 = 5_000_000_000;
/// Otherwise so much longer than an attempt may take: that it took too long is told a moment after.
const TELLING_NS: u64 = 500_000_000;

/// How long a trial of a cluster lasts at most, nanoseconds.
pub fn lasts_ns(cluster: &Cluster) -> u64 {
    match cluster.retry.per_try_timeout_ns {
        0 => TRIAL_NS,
        timeout_ns => timeout_ns.saturating_add(TELLING_NS),
    }
}

/// A blob of gates with an endpoint on trial; `None` where it is not to be held back: it is the last, or
/// it was held back for passive failures, and enough others of its tier are.
pub fn begin(
    cluster: &Cluster,
    blob: &[u8],
    endpoint: EndpointIndex,
    now: WallTime,
) -> Option<Vec<u8>> {
    let mut gates = Gates::decode(blob);
    let held = || cluster.keys_at(endpoint).filter_map(|key| gates.of(key));
    let is_passive = held().any(|gate| gate.ejected);
    if is_last(cluster, &gates, endpoint, now)
        || is_passive && !may_eject(cluster, &gates, endpoint, now)
    {
        return None;
    }
    let held: Vec<_> = held().filter(|gate| gate.has_counts()).collect();
    for gate in held {
        gates.update(gate.key, |gate| gate.put_on_trial(now, lasts_ns(cluster)));
    }
    Some(gates.encode())
}
