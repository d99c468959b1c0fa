//! What is heard of the API server: a reading of everything, and then every change.
//!
//! The library lists, watches, and asks again where a watch ended in good order or is too old. All
//! else ends the session.

use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::{Instant, timeout_at};

use super::object::Object;
use super::records::Records;
use super::slices::SERVICE_LABEL;
use crate::stores::kubernetes::access::{Access, WATCH_MAX_S, error_chain};

/// Longest time of a full reading.
const LISTING_MAX: Duration = Duration::from_secs(30);
/// Changes that are taken in at once.
const BATCH: usize = 1000;
/// Until the slices are asked for again after a failure.
const BLIND_PAUSE: Duration = Duration::from_secs(5);

type Heard<K> = BoxStream<'static, watcher::Result<Event<K>>>;
/// What is heard next; `None`: the watch ended. The error: it did not come in time.
type Next<K> = Result<Option<watcher::Result<Event<K>>>, SessionError>;

/// The store does not do what is needed; the text of the library or the server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SessionError(String);

impl SessionError {
    fn of(error: &dyn std::error::Error) -> Self {
        SessionError(error_chain(error))
    }
}

/// A reading and what follows it; dropped, it stops listening.
pub struct Session {
    access: Access,
    objects: Heard<DynamicObject>,
    /// A full reading that is not through yet.
    reading: Vec<Object>,
    slices: Slices,
    /// When everything was read last.
    pub listed: Instant,
    /// It is being read again, and must be through by then.
    listing: Option<Instant>,
}

/// The same for the endpoints of Services, which are asked for only where an object names one.
#[derive(Default)]
struct Slices {
    heard: Option<Heard<EndpointSlice>>,
    reading: Vec<EndpointSlice>,
    /// They are being read, and must be through by then.
    listing: Option<Instant>,
    retry: Option<Instant>,
    /// Why they cannot be read.
    blind: Option<String>,
}

/// What taking something in changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// The registry may be another.
    pub news: bool,
    /// All objects were read anew.
    pub full: bool,
}

impl Session {
    /// Reads everything into the records.
    pub async fn begin(access: &Access, records: &mut Records) -> Result<Self, SessionError> {
        let mut session = Session {
            objects: objects(access),
            access: access.clone(),
            reading: Vec::new(),
            slices: Slices::default(),
            listed: Instant::now(),
            listing: deadline(),
        };
        while !session.next_object(records).await?.full {}
        // Blind for Services it still serves everything else.
        session.listen_to_slices(records).await;
        Ok(session)
    }

    /// Reads everything once more; what is heard next is the whole of it.
    pub fn list_again(&mut self) {
        self.objects = objects(&self.access);
        self.reading.clear();
        // What is slow is not begun anew, or it would never end.
        if self.slices.heard.is_some() && self.slices.listing.is_none() {
            self.slices.listen(&self.access);
        }
        self.listing = deadline();
    }

    /// Whether anything is being read as a whole.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some() || self.slices.listing.is_some()
    }

    /// Why Services cannot be followed.
    pub fn blind(&self) -> Option<&str> {
        self.slices.blind.as_deref()
    }

    /// When something is to be done though nothing is heard.
    pub fn retry(&self) -> Option<Instant> {
        self.slices.retry
    }

    /// Waits for news and takes all there are into the records.
    pub async fn next(&mut self, records: &mut Records) -> Result<Taken, SessionError> {
        let mut taken = self.next_any(records).await?;
        for _ in 0..BATCH {
            let Some(more) = self.next_any(records).now_or_never() else {
                break;
            };
            let more = more?;
            taken.news |= more.news;
            taken.full |= more.full;
        }
        if taken.news {
            self.listen_or_not(records);
        }
        Ok(taken)
    }

    async fn next_any(&mut self, records: &mut Records) -> Result<Taken, SessionError> {
        tokio::select! {
            event = hear(&mut self.objects, self.listing) => self.take(event?, records),
            event = self.slices.next() => Ok(Taken {
                news: self.slices.take(event, records),
                full: false,
            }),
        }
    }

    async fn next_object(&mut self, records: &mut Records) -> Result<Taken, SessionError> {
        let event = hear(&mut self.objects, self.listing).await?;
        self.take(event, records)
    }

    fn take(
        &mut self,
        event: Option<watcher::Result<Event<DynamicObject>>>,
        records: &mut Records,
    ) -> Result<Taken, SessionError> {
        let mut taken = Taken::default();
        match event {
            Some(Ok(Event::Init)) => self.reading.clear(),
            Some(Ok(Event::InitApply(object))) => self.reading.push(Object::of(object)),
            Some(Ok(Event::InitDone)) => {
                records.replace(std::mem::take(&mut self.reading));
                self.listed = Instant::now();
                self.listing = None;
                taken = Taken {
                    news: true,
                    full: true,
                };
            }
            Some(Ok(Event::Apply(object))) => taken.news = records.put(Object::of(object)),
            Some(Ok(Event::Delete(object))) => taken.news = records.remove(&Object::of(object)),
            // Too old: the library reads everything again by itself.
            Some(Err(error)) if is_gone(&error) => self.listing = deadline(),
            Some(Err(error)) => return Err(SessionError::of(&error)),
            None => return Err(SessionError("the watch ended".to_owned())),
        }
        Ok(taken)
    }

    /// Asks for the slices, again after a failure, if an object names a Service.
    pub fn listen_or_not(&mut self, records: &mut Records) {
        if !records.needs_slices() {
            self.slices = Slices::default();
            records.forget_slices();
            return;
        }
        let due = self.slices.retry.is_none_or(|at| at <= Instant::now());
        if self.slices.heard.is_none() && due {
            self.slices.retry = None;
            self.slices.listen(&self.access);
        }
    }

    /// The first reading of the slices, so that no Service is taken for an empty one. Who knows them
    /// from an earlier session serves these until they are read again.
    async fn listen_to_slices(&mut self, records: &mut Records) {
        self.listen_or_not(records);
        while self.slices.heard.is_some() && !records.knows_slices() {
            let event = self.slices.next().await;
            self.slices.take(event, records);
        }
    }
}

impl Slices {
    fn listen(&mut self, access: &Access) {
        self.heard = Some(slices(access));
        self.listing = deadline();
    }

    /// Never, while they are not asked for.
    async fn next(&mut self) -> Next<EndpointSlice> {
        match &mut self.heard {
            Some(heard) => hear(heard, self.listing).await,
            None => std::future::pending().await,
        }
    }

    fn fail(&mut self, why: String) {
        self.heard = None;
        self.listing = None;
        self.retry = Some(Instant::now() + BLIND_PAUSE);
        self.blind = Some(format!("EndpointSlices: {why}"));
    }

    /// Takes what was heard into the records; whether that is news.
    fn take(&mut self, event: Next<EndpointSlice>, records: &mut Records) -> bool {
        match event {
            Err(late) => self.fail(late.to_string()),
            Ok(Some(Ok(Event::Init))) => self.reading.clear(),
            Ok(Some(Ok(Event::InitApply(slice)))) => self.reading.push(slice),
            Ok(Some(Ok(Event::InitDone))) => {
                records.replace_slices(std::mem::take(&mut self.reading));
                self.listing = None;
                self.blind = None;
                return true;
            }
            Ok(Some(Ok(Event::Apply(slice)))) => return records.put_slice(slice),
            Ok(Some(Ok(Event::Delete(slice)))) => return records.remove_slice(&slice),
            Ok(Some(Err(error))) if is_gone(&error) => self.listing = deadline(),
            Ok(Some(Err(error))) => self.fail(error_chain(&error)),
            Ok(None) => self.fail("the watch ended".to_owned()),
        }
        // Not to be able to read them is news too.
        self.heard.is_none()
    }
}

/// When a full reading that begins now must be through.
fn deadline() -> Option<Instant> {
    Some(Instant::now() + LISTING_MAX)
}

/// Waits for what is heard next; while everything is being read, until that must be through.
async fn hear<K>(heard: &mut Heard<K>, listing: Option<Instant>) -> Next<K> {
    let Some(end) = listing else {
        return Ok(heard.next().await);
    };
    let heard = timeout_at(end, heard.next()).await;
    heard.map_err(|_| SessionError("no answer in time".to_owned()))
}

fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

fn objects(access: &Access) -> Heard<DynamicObject> {
    let config = watcher::Config::default().timeout(WATCH_MAX_S);
    // The objects' kind is known at run time only, so that one that does not fit the types here is
    // judged like any other record and spoils nothing.
    watcher(access.objects.clone(), config).boxed()
}

fn slices(access: &Access) -> Heard<EndpointSlice> {
    let api: Api<EndpointSlice> = Api::namespaced(access.client.clone(), &access.namespace);
    let config = watcher::Config::default()
        .timeout(WATCH_MAX_S)
        .labels(SERVICE_LABEL);
    watcher(api, config).boxed()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_reading_ends_in_time_and_a_watch_need_not() {
        let mut silent: Heard<EndpointSlice> = stream::pending().boxed();
        let begun = Instant::now();
        let late = hear(&mut silent, deadline()).await;
        assert_eq!(late.unwrap_err().to_string(), "no answer in time");
        assert_eq!(begun.elapsed(), LISTING_MAX);
        let watch = hear(&mut silent, None);
        assert!(timeout_at(begun + 10 * LISTING_MAX, watch).await.is_err());
    }
}
