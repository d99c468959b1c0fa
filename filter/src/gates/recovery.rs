//! Verdicts, and who comes back with them: where weights grow slowly, that is noted.

use super::gate::Gate;
use super::gates::Gates;
use crate::base::hash::BackendKey;
use crate::base::time::WallTime;
use crate::cluster::Cluster;

/// Takes verdicts in, see [`Gates::judge`].
pub fn judge(
    cluster: &Cluster,
    gates: &mut Gates,
    unhealthy: &[BackendKey],
    healthy: impl Fn(BackendKey) -> bool,
    now: WallTime,
) {
    let before = match cluster.ramp {
        Some(_) => gates.unhealthy(),
        None => Vec::new(),
    };
    gates.judge(unhealthy, healthy, now);
    let is_sick = |key: BackendKey| gates.of(key).is_some_and(|gate| gate.unhealthy);
    let (gated, others): (Vec<BackendKey>, Vec<BackendKey>) = before
        .into_iter()
        .filter(|key| !is_sick(*key))
        .partition(|key| gates.of(*key).is_some());
    for key in gated {
        gates.update(key, |gate| gate.recovered_at = now);
    }
    gates.add(&mut others.into_iter().map(|key| Gate {
        recovered_at: now,
        ..Gate::open(key)
    }));
}
