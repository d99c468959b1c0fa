//! A configuration, compiled: the clusters of one root context.

use std::rc::Rc;
use std::time::Duration;

use super::cluster::Cluster;
use super::load::Loads;
use crate::base::hash::{self, KeyMap};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::config::{
    ClusterConfig, ConfigErrors, Container, DocumentKey, ExchangeConfig, KnownDocuments,
    VERDICT_TTL_DEFAULT,
};

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
    /// In the container's order.
    clusters: Vec<Rc<Cluster>>,
    /// Whence each of them.
    documents: KnownDocuments,
    /// What was passed over in the document of each as the news of a newer schema.
    ignored: Vec<u32>,
    /// Places by the keys of their names.
    places: KeyMap<u32>,
}

/// A cluster of the next snapshot.
enum Part {
    /// Its document is a living one's.
    Kept(Rc<Cluster>),
    /// It is to be compiled.
    Read(Box<ClusterConfig>),
}

impl Snapshot {
    /// Reads a configuration and compiles it. A cluster whose document is that of a living one is
    /// taken over from there as it is, with its cursors; loads that exist already are kept (RG-17,
    /// AD-5), and others are new to a worker that has had clusters. By `seed` workers begin their turns at different places.
    pub fn compile(
        json: &[u8],
        living: &[Rc<Snapshot>],
        loads: &mut Loads,
        now: WallTime,
        seed: u64,
    ) -> Result<Self, ConfigErrors> {
        let none = KnownDocuments::default();
        let known = living.first().map_or(&none, |newest| &newest.documents);
        let (mut container, documents) = Container::split(json, known)?;
        loads.come_new |= living.iter().any(|snapshot| !snapshot.clusters.is_empty());
        let mut parts = Vec::with_capacity(documents.len());
        for document in &documents {
            let key = container.key(document);
            let kept = living
                .iter()
                .find_map(|snapshot| snapshot.compiled_from(key));
            parts.extend(match kept {
                Some((cluster, ignored)) => {
                    container.keep(&cluster.name, ignored);
                    Some((Part::Kept(cluster), key, ignored))
                }
                None => container
                    .read(document)
                    .map(|read| (Part::Read(Box::new(read.config)), key, read.ignored)),
            });
        }
        let config = container.close()?;
        let compile = |(part, document, ignored): (Part, DocumentKey, u32)| {
            let cluster = match part {
                Part::Kept(cluster) => cluster,
                Part::Read(config) => {
                    let mut start = SplitMix64::new(seed ^ document.hash);
                    let start = start.below(u32::MAX);
                    Rc::new(Cluster::compile(&config, loads, now, start))
                }
            };
            (cluster, (document, ignored))
        };
        let parts = parts.into_iter().map(compile);
        let (clusters, (documents, ignored)): (Vec<Rc<Cluster>>, (_, _)) = parts.unzip();
        let revision = hash::parse_hex(&config.revision);
        Ok(Snapshot {
            revision: revision.unwrap_or_else(|| match config.revision.as_bytes() {
                b"" => 0,
                text => hash::text_key(text),
            }),
            header: config.header,
            exchange: config.exchange,
            ignored_fields: config.ignored_fields,
            places: clusters
                .iter()
                .map(|cluster| cluster.key.0)
                .zip(0..)
                .collect(),
            clusters,
            documents: KnownDocuments::new(documents),
            ignored,
        })
    }

    /// The cluster that was compiled from a document, and what was passed over in that.
    fn compiled_from(&self, document: DocumentKey) -> Option<(Rc<Cluster>, u32)> {
        let (place, key) = self.documents.find(document.hash)?;
        let cluster = self.clusters.get(place).filter(|_| key == document)?;
        Some((cluster.clone(), *self.ignored.get(place)?))
    }

    /// The cluster of a name, as Envoy spells it; `None`: not ours, Envoy balances.
    pub fn cluster(&self, name: &[u8]) -> Option<&Rc<Cluster>> {
        let place = self.places.get(&hash::cluster_key(name).0)?;
        self.clusters
            .get(usize::try_from(*place).ok()?)
            .filter(|cluster| cluster.name.as_bytes() == name)
    }

    /// All clusters, in the container's order.
    pub fn clusters(&self) -> &[Rc<Cluster>] {
        &self.clusters
    }

    /// The clusters that another snapshot has not, or has compiled anew.
    pub fn not_shared_with<'a>(
        &'a self,
        other: &'a Snapshot,
    ) -> impl Iterator<Item = &'a Rc<Cluster>> {
        let is_shared = |cluster: &Rc<Cluster>| {
            let others = other.cluster(cluster.name.as_bytes());
            others.is_some_and(|others| Rc::ptr_eq(others, cluster))
        };
        self.clusters
            .iter()
            .filter(move |cluster| !is_shared(cluster))
    }

    /// How long verdicts hold when the sidecar is silent; without one they hold nothing.
    pub fn verdict_ttl(&self) -> Duration {
        match &self.exchange {
            Some(exchange) => exchange.verdict_ttl,
            None => VERDICT_TTL_DEFAULT,
        }
    }
}
