//! The backends of a cluster, counted.

use pointsman_filter::config::{ClusterConfig, State};

use crate::health::HealthView;
use crate::registry::feeds::crd::status::{Counts, Impaired};

/// Most backends that are named; the others are counted.
pub const IMPAIRED_MAX: usize = 50;

/// The backends of a cluster counted, of which so many were `added` to its document, and the first
/// that are not as they should be.
pub fn survey(
    cluster: Option<&ClusterConfig>,
    added: usize,
    health: &HealthView,
) -> (Counts, Vec<Impaired>) {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let mut counts = Counts {
        from_services: count(added),
        ..Counts::default()
    };
    let mut impaired = Vec::new();
    let Some(cluster) = cluster else {
        return (counts, impaired);
    };
    counts.total = count(cluster.backends.len());
    for backend in &cluster.backends {
        let known = health.backend(&cluster.name, backend.address);
        let healthy = known.is_none_or(|known| known.healthy);
        if backend.state == State::Normal {
            counts.normal += 1;
            counts.healthy += i32::from(healthy);
        }
        if (backend.state != State::Normal || !healthy) && impaired.len() < IMPAIRED_MAX {
            let failure = known.and_then(|known| known.last_failure);
            impaired.push(Impaired {
                id: backend.id.clone(),
                address: backend.address.to_string(),
                state: backend.state.name().to_owned(),
                healthy,
                reason: failure.filter(|_| !healthy).map(|it| it.to_string()),
            });
        }
    }
    (counts, impaired)
}
