//! The registry in Kubernetes: the BackendClusters of one namespace, read and then watched.
//!
//! The library lists, watches, and asks again where a watch ended in good order. A version that is
//! too old asks for a full reading; all else ends the connection.

mod editor;
mod object;
mod slices;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use pointsman_filter::config::ExchangeConfig;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use crate::model::clock;
use crate::registry::engine::Engine;
use crate::registry::feed::{Feed, FeedError, News};
use crate::registry::feeds::crd;
use crate::registry::follow::{Follower, Told};
use crate::registry::model::{Reachability, StoreKind};
use crate::registry::record::{Record, What};
use crate::registry::services::Sight;
use crate::settings::KubernetesSettings;
pub use crate::stores::kubernetes::access::KubernetesStartError;
use crate::stores::kubernetes::access::{Access, WATCH_MAX_S, error_chain};
pub use editor::KubernetesEditor;
use object::Object;
pub use object::judge;
use slices::{Heard, SliceWatch};

/// Longest time of a full reading.
const LISTING_MAX: Duration = Duration::from_secs(30);
/// How long a full reading waits for endpoints that are known from before: slow ones hold up nobody.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is read from the API server, and how its changes are heard.
pub struct KubernetesFeed {
    access: Access,
    lease_duration: Duration,
    /// `None`: not read on this connection yet.
    objects: Option<Heard<DynamicObject>>,
    slices: SliceWatch,
    /// An object named a Service. From then on the slices are followed: though no object may name one
    /// now, a last good version may.
    needs_slices: bool,
}

impl KubernetesFeed {
    /// Connects and reads the registry; there is nothing to fall back on yet, so an error is the end.
    pub async fn start(
        settings: KubernetesSettings,
        exchange: ExchangeConfig,
    ) -> Result<Follower<Self>, KubernetesStartError> {
        let access = Access::of(&settings, crd::resource()).await?;
        access.check().await?;
        let engine = Engine::new(exchange, settings.guard_delay);
        let feed = KubernetesFeed {
            access,
            lease_duration: settings.lease_duration,
            objects: None,
            slices: SliceWatch::default(),
            needs_slices: false,
        };
        let mut follower = Follower::new(feed, engine, settings.reconcile_interval);
        if let Err(FeedError(why)) = follower.read().await {
            return Err(follower.feed().access.unreadable(why));
        }
        let place = follower.feed().place();
        info!(event = "registry_connected", "registry ✓ ({place})");
        Ok(follower)
    }

    /// The way to the API server.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// How long a lease lasts there.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// The way to change it; what it was `told` says which object has each name.
    pub fn editor(&self, told: watch::Receiver<Told>) -> KubernetesEditor {
        KubernetesEditor::new(&self.access, told)
    }

    fn record(&mut self, object: DynamicObject) -> Record {
        let object = Object::of(object);
        if object.names_a_service() && !std::mem::replace(&mut self.needs_slices, true) {
            self.slices.list(&self.access);
        }
        object.record()
    }

    fn services(&self) -> Record {
        Record {
            place: "services".to_owned(),
            rank: 0,
            what: What::Services(Arc::clone(&self.slices.services)),
        }
    }

    fn take(
        &mut self,
        event: Option<watcher::Result<Event<DynamicObject>>>,
    ) -> Result<News, FeedError> {
        let record = match event {
            Some(Ok(Event::Apply(object))) => self.record(object),
            Some(Ok(Event::Delete(object))) => Object::of(object).gone(),
            Some(Err(error)) if !is_gone(&error) => return Err(FeedError(error_chain(&error))),
            Some(_) => return Ok(News::Anything),
            None => return Err(FeedError("the watch ended".to_owned())),
        };
        Ok(News::Some(vec![record]))
    }
}

impl Feed for KubernetesFeed {
    const KIND: StoreKind = StoreKind::Kubernetes;
    const UP: Reachability = Reachability::Up;
    const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

    async fn open(&mut self) -> Result<(), FeedError> {
        self.objects = None;
        self.slices.close();
        let answered = self.access.ask().await;
        answered.map_err(|(_, error)| FeedError(error_chain(&error)))
    }

    async fn list(&mut self) -> Result<Vec<Record>, FeedError> {
        let fresh = self.objects.take().is_none();
        let mut heard = objects(&self.access);
        let read = timeout(LISTING_MAX, whole(&mut heard)).await;
        let read = read.map_err(|_| FeedError("no answer in time".to_owned()))?;
        let read = read?;
        self.objects = Some(heard);
        if self.needs_slices {
            self.slices.list(&self.access);
        }
        let mut records: Vec<Record> = read.into_iter().map(|it| self.record(it)).collect();
        // At first no Service may be taken for an empty one.
        let patience = match (fresh, &self.slices.services.sight) {
            (true, Sight::Unread) => LISTING_MAX,
            _ => PATIENCE,
        };
        let slices = async {
            while self.slices.is_listing() {
                self.slices.next(&self.access).await;
            }
        };
        timeout(patience, slices).await.unwrap_or_default();
        records.push(self.services());
        Ok(records)
    }

    async fn next(&mut self) -> Result<News, FeedError> {
        let Some(heard) = &mut self.objects else {
            return Ok(News::Anything);
        };
        tokio::select! {
            event = heard.next() => self.take(event),
            () = self.slices.next(&self.access) => Ok(News::Some(vec![self.services()])),
        }
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn place(&self) -> String {
        let Access { url, namespace, .. } = &self.access;
        format!("Kubernetes at {url}, namespace {namespace}")
    }
}

/// The objects' kind is known at run time only, so that one that does not fit the types here is
/// judged like any other record and spoils nothing.
fn objects(access: &Access) -> Heard<DynamicObject> {
    let config = watcher::Config::default().timeout(WATCH_MAX_S);
    watcher(access.objects.clone(), config).boxed()
}

/// The objects that a watch begins with.
async fn whole(heard: &mut Heard<DynamicObject>) -> Result<Vec<DynamicObject>, FeedError> {
    let mut read = Vec::new();
    loop {
        match heard.next().await {
            Some(Ok(Event::InitApply(object))) => read.push(object),
            Some(Ok(Event::InitDone)) => return Ok(read),
            Some(Ok(_)) => read.clear(),
            Some(Err(error)) => return Err(FeedError(error_chain(&error))),
            None => return Err(FeedError("the watch ended".to_owned())),
        }
    }
}

/// Whether a watch would have gone on from a version that the server no longer knows.
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

#[cfg(test)]
mod tests;
