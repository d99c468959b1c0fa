//! The rules of one delta ADS stream, without IO: requests in, answers out.
//!
//! Answers leave in an order that never breaks what is being served: clusters, whom they trust,
//! endpoints, filters; then what is gone. The filter that names a backend comes after the endpoints that hold it.

mod renewal;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::snapshot::{Name, Resource, Snapshot};
use super::{Kind, Nack, Progress};
use renewal::Renewals;
use subscription::{Sent, Subscription};
use tokio::time::Instant;

pub use subscription::TooManyNames;

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
    pub resources: Vec<(Name, Arc<Resource>)>,
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

/// One stream's state.
#[derive(Debug, Default)]
pub struct Session {
    clusters: Subscription,
    secrets: Subscription,
    endpoints: Subscription,
    filters: Subscription,
    /// Clusters that were sent and whose endpoints were not sent since: Envoy warms a changed
    /// cluster until it gets its endpoints again, and never asks for them.
    cold: BTreeSet<Name>,
    /// Clusters that another sidecar has rendered, while they wait.
    renewals: Renewals,
    nonces: u64,
}

impl Session {
    /// Takes in a message; `snapshot` is what is served, if anything is.
    pub fn on_request(
        &mut self,
        kind: Kind,
        request: Request,
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Event>, TooManyNames> {
        let shelf = snapshot.map(|snapshot| snapshot.shelf(kind));
        let shared = |name: String| match shelf {
            Some(shelf) => shelf.shared(name),
            None => name.into(),
        };
        let subscription = self.of(kind);
        let event = subscription.on_nonce(&request.nonce, request.error);
        let first = !std::mem::replace(&mut subscription.started, true);
        if first || !request.subscribe.is_empty() || !request.unsubscribe.is_empty() {
            subscription.settled = None;
        }
        if first {
            // Only cluster discovery has the old way of saying "everything": saying nothing.
            subscription.wildcard = kind == Kind::Clusters && request.subscribe.is_empty();
            let initial = request.initial.into_iter();
            let initial = initial.map(|(name, version)| (shared(name), version.into()));
            subscription.has = Arc::new(initial.collect());
            subscription.came_back = !subscription.has.is_empty();
        }
        subscription.subscribe(request.subscribe.into_iter().map(shared), first)?;
        subscription.unsubscribe(request.unsubscribe);
        Ok(event)
    }

    /// The next answer that is due, if any; to be asked until there is none, and again at [`Self::wake`].
    pub fn next(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Answer> {
        self.cold
            .retain(|name| snapshot.clusters.get(name).is_some());
        let mut renewed = self.renewals.take_due(now);
        renewed.retain(|name| snapshot.clusters.get(name).is_some());
        self.clusters.owe(renewed);
        self.answer(Kind::Clusters, snapshot, true, false, now)
            // A cluster is warm only once it has been told that there is no such secret, too.
            .or_else(|| self.answer(Kind::Secrets, snapshot, true, true, now))
            .or_else(|| self.answer(Kind::Endpoints, snapshot, true, false, now))
            .or_else(|| self.answer(Kind::Filters, snapshot, true, true, now))
            .or_else(|| self.answer(Kind::Clusters, snapshot, false, true, now))
            .or_else(|| self.answer(Kind::Endpoints, snapshot, false, true, now))
            .or_else(|| {
                for kind in Kind::ALL {
                    self.of(kind).settle_on(snapshot.shelf(kind).version());
                }
                None
            })
    }

    /// When something will be due although nothing changes.
    pub fn wake(&self) -> Option<Instant> {
        self.renewals.next()
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
            nacked: subscription.nacked.first().cloned(),
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
        now: Instant,
    ) -> Option<Answer> {
        let cold = match kind {
            Kind::Endpoints => std::mem::take(&mut self.cold),
            Kind::Clusters | Kind::Secrets | Kind::Filters => BTreeSet::new(),
        };
        let subscription = self.of(kind);
        let (mut resources, mut removed, mut brought) = (Vec::new(), Vec::new(), None);
        let version = snapshot.shelf(kind).version();
        let settled = subscription.is_settled_on(version) && cold.is_empty();
        if !settled && subscription.has_room() {
            if news {
                brought = subscription.take_brought();
                resources = subscription.take_news(snapshot.shelf(kind), kind, &cold);
            }
            if gone {
                removed = subscription.take_gone(snapshot.shelf(kind));
            }
        }
        if kind == Kind::Clusters {
            resources = self.renewals.admit(resources, brought.as_deref(), now);
        }
        self.settle_cold(kind, cold, &resources);
        if resources.is_empty() && removed.is_empty() {
            return None;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let version = version.to_owned();
        let filter = resources.first().filter(|_| kind == Kind::Filters);
        self.of(kind).pending.push_back(Sent {
            nonce: nonce.clone(),
            version: version.clone(),
            filter: filter.map(|(name, _)| Arc::clone(name)),
        });
        Some(Answer {
            kind,
            nonce,
            version,
            resources,
            removed,
        })
    }

    fn settle_cold(&mut self, kind: Kind, cold: BTreeSet<Name>, sent: &[(Name, Arc<Resource>)]) {
        match kind {
            Kind::Clusters => self
                .cold
                .extend(sent.iter().map(|(name, _)| Arc::clone(name))),
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

#[cfg(test)]
mod tests;
