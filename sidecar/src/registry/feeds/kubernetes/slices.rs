//! What is heard of EndpointSlices, which are asked for only where an object names a Service.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{LISTING_MAX, is_gone};
use crate::registry::services::{SERVICE_LABEL, Services, Sight};
use crate::stores::kubernetes::access::{Access, WATCH_MAX_S, error_chain};

/// Until the slices are read anew after a watch has failed, as one does on a connection that is gone or
/// on a server that starts.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// Until they are asked for again after a reading has failed; so long may watches fail before that is told.
const BLIND_PAUSE: Duration = Duration::from_secs(5);

/// What is heard of one kind.
pub type Heard<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// The slices of a namespace.
#[derive(Default)]
pub struct SliceWatch {
    heard: Option<Heard<EndpointSlice>>,
    reading: Vec<EndpointSlice>,
    /// They are being read, and must be through by then.
    listing: Option<Instant>,
    retry: Option<Instant>,
    /// When they were read as a whole.
    read_at: Option<Instant>,
    /// Since when no watch has held.
    failing: Option<Instant>,
    /// What was read of them.
    pub services: Arc<Services>,
}

impl SliceWatch {
    /// Stops listening; what was read stays.
    pub fn close(&mut self) {
        *self = SliceWatch {
            services: Arc::clone(&self.services),
            ..SliceWatch::default()
        };
    }

    /// Whether they are being read as a whole.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Reads them all anew. What is slow is not begun anew, or it would never end.
    pub fn list(&mut self, access: &Access) {
        if self.listing.is_some() {
            return;
        }
        let api: Api<EndpointSlice> = Api::namespaced(access.client.clone(), &access.namespace);
        let config = watcher::Config::default()
            .timeout(WATCH_MAX_S)
            .labels(SERVICE_LABEL);
        self.heard = Some(watcher(api, config).boxed());
        self.listing = deadline();
        self.retry = None;
    }

    /// Waits until they are others than before, or cannot be read. Never, while nobody listens.
    pub async fn next(&mut self, access: &Access) {
        loop {
            let news = match (&mut self.heard, self.retry) {
                (Some(heard), _) => match hear(heard, self.listing).await {
                    Some(event) => self.take(event),
                    None => self.fail("no answer in time"),
                },
                (None, Some(at)) => {
                    sleep_until(at).await;
                    self.list(access);
                    false
                }
                (None, None) => std::future::pending().await,
            };
            if news {
                return;
            }
        }
    }

    /// Takes what was heard; whether that is news.
    fn take(&mut self, event: Option<watcher::Result<Event<EndpointSlice>>>) -> bool {
        match event {
            Some(Ok(Event::Init)) => self.reading.clear(),
            Some(Ok(Event::InitApply(slice))) => self.reading.push(slice),
            Some(Ok(Event::InitDone)) => {
                self.listing = None;
                self.read_at = Some(Instant::now());
                let read = std::mem::take(&mut self.reading);
                Arc::make_mut(&mut self.services).replace(read);
                return true;
            }
            Some(Ok(Event::Apply(slice))) => return Arc::make_mut(&mut self.services).put(slice),
            Some(Ok(Event::Delete(slice))) => {
                return Arc::make_mut(&mut self.services).remove(&slice);
            }
            // Too old: the library reads everything again by itself.
            Some(Err(error)) if is_gone(&error) => self.listing = deadline(),
            Some(Err(error)) => return self.fail(&error_chain(&error)),
            None => return self.fail("the watch ended"),
        }
        false
    }

    /// Not to be able to read them is news too. That a watch has failed is none, unless the next ones do.
    fn fail(&mut self, why: &str) -> bool {
        let now = Instant::now();
        let held = self.read_at.is_some_and(|at| now >= at + BLIND_PAUSE);
        let since = self.failing.filter(|_| !held).unwrap_or(now);
        let is_news = self.is_listing() || now >= since + BLIND_PAUSE;
        self.close();
        self.failing = Some(since);
        let pause = if is_news { BLIND_PAUSE } else { WATCH_PAUSE };
        self.retry = Some(now + pause);
        if is_news {
            let why = format!("EndpointSlices: {why}");
            Arc::make_mut(&mut self.services).sight = Sight::Blind(why);
        }
        is_news
    }
}

/// When a full reading that begins now must be through.
fn deadline() -> Option<Instant> {
    Some(Instant::now() + LISTING_MAX)
}

/// Waits for what is heard next; while everything is being read, until that must be through: `None`
/// if it is not.
async fn hear<T>(heard: &mut BoxStream<'static, T>, listing: Option<Instant>) -> Option<Option<T>> {
    match listing {
        None => Some(heard.next().await),
        Some(end) => timeout_at(end, heard.next()).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_reading_ends_in_time_and_a_watch_need_not() {
        let mut silent: BoxStream<'static, ()> = stream::pending().boxed();
        let begun = Instant::now();
        assert!(hear(&mut silent, deadline()).await.is_none());
        assert_eq!(begun.elapsed(), LISTING_MAX);
        let watch = hear(&mut silent, None);
        assert!(timeout_at(begun + 10 * LISTING_MAX, watch).await.is_err());
    }

    /// A reading that is through, of which a watch follows.
    fn read(slices: &mut SliceWatch) {
        slices.listing = deadline();
        assert!(slices.take(Some(Ok(Event::InitDone))));
        assert_eq!(slices.services.sight, Sight::Clear);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_is_no_news_but_a_reading_and_watch_after_watch_are() {
        let mut slices = SliceWatch::default();
        read(&mut slices);
        for _ in 0..3 {
            advance(2 * BLIND_PAUSE).await;
            assert!(!slices.fail("gone"), "one that held");
            assert_eq!(slices.retry, Some(Instant::now() + WATCH_PAUSE));
            read(&mut slices);
        }
        slices.listing = deadline();
        assert!(slices.fail("no rights"));
        let why = Sight::Blind("EndpointSlices: no rights".to_owned());
        assert_eq!(slices.services.sight, why);
        assert_eq!(slices.retry, Some(Instant::now() + BLIND_PAUSE));

        let mut slices = SliceWatch::default();
        let begun = Instant::now();
        let mut told = false;
        while !told && begun.elapsed() < 2 * BLIND_PAUSE {
            read(&mut slices);
            told = slices.fail("none of them holds");
            advance(WATCH_PAUSE).await;
        }
        assert_eq!(begun.elapsed(), BLIND_PAUSE + WATCH_PAUSE);
    }
}
