//! A part of what is served, for proxies that want some clusters alone.
//!
//! Such a proxy's filter has a configuration of its own, and so a revision of its own. It is made from
//! what the proxy wants, too: no registry has it, so that a report of it can only mean the view, and is
//! taken for the revision of the registry that the view is a part of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::google::protobuf::value::Kind as Data;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use envoy_types::util::pack_any;
use pointsman_filter::base::hash;
use pointsman_filter::config::FilterConfig;

use super::resources::{self, Code, FILTER_NAME};
use super::snapshot::{Name, Resource, Shelf, Snapshot};
use crate::registry::Registry;

/// Most globs of one proxy.
const GLOBS_MAX: usize = 256;
/// Longest glob, bytes: that of the longest name.
const GLOB_MAX: usize = 253;

/// The clusters that a proxy wants: globs in which `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted(BTreeSet<String>);

/// A proxy says in no way that is understood which clusters it wants.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node.metadata.pointsman.clusters must be a list of 1 to {GLOBS_MAX} globs of at most \
     {GLOB_MAX} bytes"
)]
pub struct NotGlobs;

impl Wanted {
    /// What a node's metadata say; `None`: it wants all there are.
    pub fn of(metadata: Option<&Struct>) -> Result<Option<Self>, NotGlobs> {
        let Some(ours) = metadata.and_then(|metadata| metadata.fields.get("pointsman")) else {
            return Ok(None);
        };
        let Some(Data::StructValue(ours)) = &ours.kind else {
            return Err(NotGlobs);
        };
        let Some(clusters) = ours.fields.get("clusters") else {
            return Ok(None);
        };
        let Some(Data::ListValue(ListValue { values })) = &clusters.kind else {
            return Err(NotGlobs);
        };
        let globs: Option<BTreeSet<String>> = values.iter().map(glob).collect();
        let globs = globs.filter(|globs| (1..=GLOBS_MAX).contains(&globs.len()));
        globs.map(|globs| Some(Wanted(globs))).ok_or(NotGlobs)
    }

    /// Whether it wants the cluster of this name.
    pub fn has(&self, name: &str) -> bool {
        let mut globs = self.0.iter();
        globs.any(|glob| matches(glob.as_bytes(), name.as_bytes()))
    }
}

fn glob(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Data::StringValue(glob)) if glob.len() <= GLOB_MAX => Some(glob.clone()),
        _ => None,
    }
}

/// Goes back to the last `*` alone, so that no glob takes longer than the product of the lengths.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                (at, seen) = (place + 1, taken + 1);
            }
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

/// What is served at one moment, to each proxy what it wants of it.
#[derive(Debug)]
pub struct Offer {
    /// What a proxy gets that wants all there is.
    pub whole: Arc<Snapshot>,
    registry: Arc<Registry>,
    code: Arc<Code>,
    views: Mutex<Views>,
}

#[derive(Debug, Default)]
struct Views {
    rendered: BTreeMap<Wanted, View>,
    revisions: BTreeSet<u64>,
}

#[derive(Debug)]
struct View {
    snapshot: Arc<Snapshot>,
    /// Whether a proxy has asked for it since it was rendered.
    asked: bool,
}

impl Offer {
    /// A snapshot of this registry. Views that were asked for `before` are made at once: no report comes
    /// of a view's revision that nobody knows yet although the view has not changed.
    pub fn new(
        whole: Snapshot,
        registry: Arc<Registry>,
        code: Arc<Code>,
        before: Option<&Offer>,
    ) -> Self {
        let offer = Offer {
            whole: Arc::new(whole),
            registry,
            code,
            views: Mutex::default(),
        };
        for wanted in before.map(Offer::asked).unwrap_or_default() {
            drop(offer.view(&wanted, false));
        }
        offer
    }

    /// What a proxy gets that wants this.
    pub fn of(&self, wanted: Option<&Wanted>) -> Arc<Snapshot> {
        match wanted {
            Some(wanted) => self.view(wanted, true),
            None => Arc::clone(&self.whole),
        }
    }

    /// The registry's revision where this one is a view's of it, else the same.
    pub fn registry_revision(&self, revision: u64) -> u64 {
        match self.views().revisions.contains(&revision) {
            true => self.registry.revision,
            false => revision,
        }
    }

    fn asked(&self) -> Vec<Wanted> {
        let views = self.views();
        let asked = views.rendered.iter().filter(|(_, view)| view.asked);
        asked.map(|(wanted, _)| wanted.clone()).collect()
    }

    fn view(&self, wanted: &Wanted, asked: bool) -> Arc<Snapshot> {
        let mut views = self.views();
        if let Some(view) = views.rendered.get_mut(wanted) {
            view.asked |= asked;
            return Arc::clone(&view.snapshot);
        }
        let (snapshot, revision) = self.render(wanted);
        let snapshot = Arc::new(snapshot);
        views.revisions.insert(revision);
        let view = View {
            snapshot: Arc::clone(&snapshot),
            asked,
        };
        views.rendered.insert(wanted.clone(), view);
        snapshot
    }

    fn render(&self, wanted: &Wanted) -> (Snapshot, u64) {
        let all = &self.registry.config;
        let clusters = all.clusters.iter().filter(|it| wanted.has(&it.name));
        let mut config = FilterConfig::new(clusters.cloned().collect(), all.exchange.clone());
        let globs: Vec<&str> = wanted.0.iter().map(String::as_str).collect();
        let revision = hash::parse_hex(&config.revision).unwrap_or(0);
        let revision = hash::below(revision, &globs.join("\n"));
        config.revision = hash::hex(revision);
        let part = |shelf: &Shelf| {
            let there = shelf.iter().filter(|(name, _)| wanted.has(name));
            Shelf::new(
                there
                    .map(|(name, it)| (Arc::clone(name), Arc::clone(it)))
                    .collect(),
            )
        };
        let filters = self.whole.filters.iter().map(|(name, role)| {
            let role = match **name == *FILTER_NAME {
                true => Arc::new(Resource::new(pack_any(resources::filter(
                    &config, &self.code,
                )))),
                false => Arc::clone(role),
            };
            (Arc::clone(name), role)
        });
        let filters: BTreeMap<Name, Arc<Resource>> = filters.collect();
        let snapshot = Snapshot {
            clusters: part(&self.whole.clusters),
            // Named by files: a proxy asks for those of its clusters.
            secrets: self.whole.secrets.clone(),
            endpoints: part(&self.whole.endpoints),
            filters: Shelf::new(filters),
        };
        (snapshot, revision)
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
