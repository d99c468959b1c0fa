//! A configuration, compiled: the clusters of one root context.

use std::rc::Rc;
use std::time::Duration;

use super::cluster::Cluster;
use super::load::Loads;
use crate::base::hash;
use crate::base::hash::KeyMap;
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::config::{ExchangeConfig, FilterConfig, VERDICT_TTL_DEFAULT};

/// Everything one configuration says, ready for picks.
#[derive(Debug)]
pub struct Snapshot {
    /// The revision's hash; 0 in a static configuration.
    pub revision: u64,
    /// The request header that carries the list.
    pub header: String,
    /// How to speak with the sidecar; absent: there is none.
    pub exchange: Option<ExchangeConfig>,
    /// Fields of a newer schema that were passed over.
    pub ignored_fields: u32,
    /// Sorted by name.
    clusters: Vec<Rc<Cluster>>,
    places: KeyMap<u32>,
}

impl Snapshot {
    /// Compiles a parsed configuration; loads that exist already are kept (RG-17, AD-5).
    pub fn compile(
        config: &FilterConfig,
        loads: &mut Loads,
        now: WallTime,
        rng: &mut SplitMix64,
    ) -> Self {
        let clusters: Vec<Rc<Cluster>> = config
            .clusters
            .iter()
            .map(|cluster| Rc::new(Cluster::compile(cluster, loads, now, rng.below(u32::MAX))))
            .collect();
        let revision = hash::parse_hex(&config.revision);
        Snapshot {
            revision: revision.unwrap_or_else(|| match config.revision.as_bytes() {
                b"" => 0,
                text => hash::text_key(text),
            }),
            header: config.header.clone(),
            exchange: config.exchange.clone(),
            ignored_fields: config.ignored_fields,
            places: (0..).zip(&clusters).map(|(i, c)| (c.key, i)).collect(),
            clusters,
        }
    }

    /// The cluster of a name, as Envoy spells it; `None`: not ours, Envoy balances.
    pub fn cluster(&self, name: &[u8]) -> Option<&Rc<Cluster>> {
        let place = self.places.get(&hash::cluster_key(name))?;
        self.clusters
            .get(usize::try_from(*place).ok()?)
            .filter(|cluster| cluster.name.as_bytes() == name)
    }

    /// All clusters, sorted by name.
    pub fn clusters(&self) -> &[Rc<Cluster>] {
        &self.clusters
    }

    /// How long verdicts hold when the sidecar is silent; without one they hold nothing.
    pub fn verdict_ttl(&self) -> Duration {
        match &self.exchange {
            Some(exchange) => exchange.verdict_ttl,
            None => VERDICT_TTL_DEFAULT,
        }
    }
}
