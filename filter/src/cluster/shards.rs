//! Shuffle shards: each key of a cluster reaches a few of its primaries alone (LB-17).
//!
//! There are 1,024 shards. Who is in one is decided over the configured primaries, whatever state they
//! are in: neither a failure nor a cordon moves anybody to a shard, and a primary that leaves makes
//! room for one other in its shards alone.

use std::cell::OnceCell;

use super::endpoint::{Backend, Endpoint};
use super::tier::{Rank, Tier};
use crate::base::hash::{self, KeySet, LoadKey};
use crate::config::{LoadBalancing, Policy, WhenExhausted};

/// How many shards there are; a power of two.
const SHARDS: usize = 1024;

/// The shards of one cluster. Each is made when its first request comes.
#[derive(Debug)]
pub struct Shards {
    /// A request is refused when nobody of its shard can serve, though others could.
    pub refuses: bool,
    primaries: KeySet<LoadKey>,
    size: usize,
    policy: Policy,
    seed: u32,
    tiers: Vec<OnceCell<Box<Tier>>>,
}

impl Shards {
    /// The shards of a cluster; `None` where it is to have none, or has too few primaries.
    pub(super) fn of(
        balancing: &LoadBalancing,
        backends: &[Backend],
        endpoints: &[Endpoint],
        seed: u32,
    ) -> Option<Self> {
        let config = balancing.shuffle_shard?;
        let primaries = backends.iter().filter(|backend| !backend.backup);
        let primaries = primaries.filter_map(|backend| endpoints.get(backend.endpoint.place()));
        let primaries: KeySet<LoadKey> = primaries.map(|endpoint| endpoint.load.key).collect();
        let mut tiers = Vec::new();
        tiers.resize_with(SHARDS, OnceCell::new);
        Some(Shards {
            refuses: config.when_exhausted == WhenExhausted::Refuse,
            size: config.size(primaries.iter().count())?,
            primaries,
            // A shard is too small for a table.
            policy: match balancing.policy {
                Policy::Maglev => Policy::Rendezvous,
                policy => policy,
            },
            seed,
            tiers,
        })
    }

    /// The shard of a key: those of its primaries that take requests.
    pub(super) fn tier(&self, key: u64, endpoints: &[Endpoint]) -> Option<&Tier> {
        // The upper bits: a ranking inside the shard mixes all of them.
        let shard = usize::try_from(key >> 32).unwrap_or(0) & (SHARDS - 1);
        let tier = self.tiers.get(shard)?;
        Some(tier.get_or_init(|| {
            let draw = |key: LoadKey| hash::draw(u64::try_from(shard).unwrap_or(0), key.0);
            let mut draws: Vec<(u64, u32)> = self.primaries.iter().map(|k| (draw(k), 0)).collect();
            hash::sort(&mut draws);
            let least = draws.iter().nth_back(self.size.saturating_sub(1));
            let least = least.map_or(0, |(draw, _)| *draw);
            let is_in = |endpoint: &Endpoint| {
                endpoint.normal && !endpoint.backup && draw(endpoint.load.key) >= least
            };
            let tier = Tier::new(Rank::Primary, self.policy, endpoints, &is_in, self.seed);
            Box::new(tier)
        }))
    }
}
