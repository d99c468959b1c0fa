//! The client's shard, as a request meets it (LB-17).

use crate::cluster::pool::Pool;
use crate::cluster::{Cluster, EndpointIndex};

/// Whose a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The cluster's.
    Cluster,
    /// The shard's: nobody else stands in it but whom a cookie names.
    Shard,
    /// That of primaries outside the shard: nobody in it can serve.
    Spilled,
}

/// Whether an endpoint is of a key's shard.
pub fn holds(cluster: &Cluster, key: u64, endpoint: EndpointIndex) -> bool {
    let shard = cluster.shard(key);
    let mut pools = shard.iter().flat_map(|shard| shard.pools());
    pools.any(|pool| pool.place_of(endpoint).is_some())
}

/// Who may stand behind an endpoint that a cookie names, wherever that is: the shard alone while
/// somebody of it can serve.
pub fn scope_beside(
    cluster: &Cluster,
    key: u64,
    named: EndpointIndex,
    can_serve: impl Fn(&Pool) -> bool,
) -> Scope {
    let (Some(shards), Some(shard)) = (&cluster.shards, cluster.shard(key)) else {
        return Scope::Cluster;
    };
    if shards.refuses || holds(cluster, key, named) || shard.pools().into_iter().any(can_serve) {
        Scope::Shard
    } else {
        Scope::Cluster
    }
}
