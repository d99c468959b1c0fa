//! The rules of one delta ADS stream, without IO: requests in, answers out.
//!
//! Answers leave in an order that never breaks what is being served: clusters, whom they trust,
//! endpoints, filters; then what is gone. The filter that names a backend comes after the endpoints that hold it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::snapshot::{Resource, Snapshot};
use super::{Kind, Nack, Progress};

/// Answers of one kind that may be waiting for the proxy's word; then changes wait too, and the
/// next answer carries all of them at once.
const PENDING_MAX: usize = 32;
/// Names a stream may subscribe to, per kind.
const NAMES_MAX: usize = 100_000;
/// Longest text of a refusal that is kept, bytes: a page shows one per type of every stream.
const ERROR_MAX: usize = 4096;
const WILDCARD: &str = "*";

/// What a proxy's message says.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names it wants from now on.
    pub subscribe: Vec<String>,
    /// Names it wants no more.
    pub unsubscribe: Vec<String>,
    /// What it still has from an earlier stream: name → version. Only in the first message.
    pub initial: BTreeMap<String, String>,
    /// The answer it speaks of; empty: none.
    pub nonce: String,
    /// Why it refused that answer; absent: it accepted.
    pub error: Option<String>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it is about.
    pub kind: Kind,
    /// The proxy's word on it will carry this.
    pub nonce: String,
    /// The version of everything of this kind at this moment.
    pub version: String,
    /// New or changed.
    pub resources: Vec<(String, Arc<Resource>)>,
    /// Gone, or never there.
    pub removed: Vec<String>,
}

/// What a request taught us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An answer was accepted.
    Acked {
        /// The version of that answer.
        version: String,
    },
    /// An answer was refused.
    Nacked(Nack),
}

/// A stream asks for more names than any registry holds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream may subscribe to at most {NAMES_MAX} names of one kind")]
pub struct TooManyNames;

/// One stream's state.
#[derive(Debug, Default)]
pub struct Session {
    clusters: Subscription,
    secrets: Subscription,
    endpoints: Subscription,
    filters: Subscription,
    /// Clusters that were sent and whose endpoints were not sent since: Envoy warms a changed
    /// cluster until it gets its endpoints again, and never asks for them.
    cold: BTreeSet<String>,
    nonces: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    started: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the proxy was sent, whether it accepted it or not: a refused version is not sent again.
    has: BTreeMap<String, String>,
    /// Names that are owed an answer even if it is not news.
    owed: BTreeSet<String>,
    /// Nonce and version of each answer it has not judged yet.
    pending: VecDeque<(String, String)>,
    acked: Option<String>,
    nacked: Option<Nack>,
}

impl Session {
    /// Takes in a message.
    pub fn on_request(
        &mut self,
        kind: Kind,
        request: Request,
    ) -> Result<Option<Event>, TooManyNames> {
        let subscription = self.of(kind);
        let event = subscription.on_nonce(&request.nonce, request.error);
        let first = !std::mem::replace(&mut subscription.started, true);
        if first {
            // Only cluster discovery has the old way of saying "everything": saying nothing.
            subscription.wildcard = kind == Kind::Clusters && request.subscribe.is_empty();
            subscription.has = request.initial;
        }
        subscription.subscribe(request.subscribe, first)?;
        subscription.unsubscribe(request.unsubscribe);
        Ok(event)
    }

    /// The next answer that is due, if any; to be asked until there is none.
    pub fn next(&mut self, snapshot: &Snapshot) -> Option<Answer> {
        self.cold
            .retain(|name| snapshot.clusters.get(name).is_some());
        self.answer(Kind::Clusters, snapshot, true, false)
            // A cluster is warm only once it has been told that there is no such secret, too.
            .or_else(|| self.answer(Kind::Secrets, snapshot, true, true))
            .or_else(|| self.answer(Kind::Endpoints, snapshot, true, false))
            .or_else(|| self.answer(Kind::Filters, snapshot, true, true))
            .or_else(|| self.answer(Kind::Clusters, snapshot, false, true))
            .or_else(|| self.answer(Kind::Endpoints, snapshot, false, true))
    }

    /// How far the proxy is with a kind; absent: it never asked for it.
    pub fn progress(&self, kind: Kind) -> Option<Progress> {
        let subscription = match kind {
            Kind::Clusters => &self.clusters,
            Kind::Secrets => &self.secrets,
            Kind::Endpoints => &self.endpoints,
            Kind::Filters => &self.filters,
        };
        subscription.started.then(|| Progress {
            acked: subscription.acked.clone(),
            nacked: subscription.nacked.clone(),
            pending: subscription.pending.len(),
        })
    }

    fn of(&mut self, kind: Kind) -> &mut Subscription {
        match kind {
            Kind::Clusters => &mut self.clusters,
            Kind::Secrets => &mut self.secrets,
            Kind::Endpoints => &mut self.endpoints,
            Kind::Filters => &mut self.filters,
        }
    }

    fn answer(
        &mut self,
        kind: Kind,
        snapshot: &Snapshot,
        news: bool,
        gone: bool,
    ) -> Option<Answer> {
        let cold = match kind {
            Kind::Endpoints => std::mem::take(&mut self.cold),
            Kind::Clusters | Kind::Secrets | Kind::Filters => BTreeSet::new(),
        };
        let subscription = self.of(kind);
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        if subscription.pending.len() < PENDING_MAX {
            if news {
                resources = subscription.take_news(snapshot, kind, &cold);
            }
            if gone {
                removed = subscription.take_gone(snapshot, kind);
            }
        }
        self.settle_cold(kind, cold, &resources);
        if resources.is_empty() && removed.is_empty() {
            return None;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let version = snapshot.shelf(kind).version().to_owned();
        let sent = (nonce.clone(), version.clone());
        self.of(kind).pending.push_back(sent);
        Some(Answer {
            kind,
            nonce,
            version,
            resources,
            removed,
        })
    }

    fn settle_cold(
        &mut self,
        kind: Kind,
        cold: BTreeSet<String>,
        sent: &[(String, Arc<Resource>)],
    ) {
        match kind {
            Kind::Clusters => self.cold.extend(sent.iter().map(|(name, _)| name.clone())),
            Kind::Endpoints => {
                self.cold = cold;
                for (name, _) in sent {
                    self.cold.remove(name);
                }
            }
            Kind::Secrets | Kind::Filters => {}
        }
    }
}

impl Subscription {
    fn on_nonce(&mut self, nonce: &str, error: Option<String>) -> Option<Event> {
        // An unknown nonce speaks of another stream: it tells nothing.
        let at = self.pending.iter().position(|(sent, _)| sent == nonce)?;
        let (_, version) = self.pending.remove(at)?;
        Some(match error {
            None => {
                self.acked = Some(version.clone());
                self.nacked = None;
                Event::Acked { version }
            }
            Some(mut error) => {
                error.truncate(error.floor_char_boundary(ERROR_MAX));
                let nack = Nack { version, error };
                self.nacked = Some(nack.clone());
                Event::Nacked(nack)
            }
        })
    }

    fn subscribe(&mut self, names: Vec<String>, first: bool) -> Result<(), TooManyNames> {
        for name in names {
            if name == WILDCARD {
                self.wildcard = true;
                continue;
            }
            // A name that is asked for is answered, even again; but not one the proxy brought
            // along from an earlier stream.
            if !(first && self.has.contains_key(&name)) {
                self.owed.insert(name.clone());
            }
            self.names.insert(name);
        }
        if first {
            let (wildcard, names) = (self.wildcard, &self.names);
            self.has.retain(|name, _| wildcard || names.contains(name));
        }
        match self.names.len() <= NAMES_MAX {
            true => Ok(()),
            false => Err(TooManyNames),
        }
    }

    /// What is unsubscribed is forgotten: a later subscription starts from nothing.
    fn unsubscribe(&mut self, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                let names = &self.names;
                self.has.retain(|name, _| names.contains(name));
                continue;
            }
            self.names.remove(&name);
            self.has.remove(&name);
            self.owed.remove(&name);
            if self.wildcard {
                // The wildcard still covers it, and the answer says so.
                self.owed.insert(name);
            }
        }
    }

    fn take_news(
        &mut self,
        snapshot: &Snapshot,
        kind: Kind,
        cold: &BTreeSet<String>,
    ) -> Vec<(String, Arc<Resource>)> {
        let shelf = snapshot.shelf(kind);
        let due = |name: &String, resource: &Arc<Resource>| {
            self.has.get(name) != Some(&resource.version)
                || self.owed.contains(name)
                || cold.contains(name)
        };
        let news: Vec<(String, Arc<Resource>)> = match self.wildcard {
            true => shelf
                .iter()
                .filter(|(name, resource)| due(name, resource))
                .map(|(name, resource)| (name.clone(), Arc::clone(resource)))
                .collect(),
            false => self
                .names
                .iter()
                .filter_map(|name| Some((name, shelf.get(name)?)))
                .filter(|(name, resource)| due(name, resource))
                .map(|(name, resource)| (name.clone(), Arc::clone(resource)))
                .collect(),
        };
        for (name, resource) in &news {
            self.owed.remove(name);
            self.has.insert(name.clone(), resource.version.clone());
        }
        news
    }

    fn take_gone(&mut self, snapshot: &Snapshot, kind: Kind) -> Vec<String> {
        let shelf = snapshot.shelf(kind);
        let names: BTreeSet<&String> = self.has.keys().chain(&self.owed).collect();
        let gone: Vec<String> = names
            .into_iter()
            .filter(|name| shelf.get(name).is_none())
            .cloned()
            .collect();
        for name in &gone {
            self.has.remove(name);
            self.owed.remove(name);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
