//! The registry in Kubernetes: the BackendClusters of one namespace, read and then watched.
//!
//! A session is one reading and the watch after it. Whatever goes wrong ends the session; the
//! registry of before serves on, and a new session starts over. [`crd`] is what users write,
//! [`records`] with [`object`] and [`slices`] the rules, [`session`] and [`access`] the IO. What
//! became of each object is written by [`writer`], by the rules of [`status`].

mod access;
pub mod crd;
mod editor;
mod lease;
mod object;
mod progress;
mod records;
mod session;
mod slices;
mod status;
mod writer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_filter::config::ExchangeConfig;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::guard::Guard;
use super::sessions::{self, Sessions};
use super::{Feedback, Held, Outlets, Registry, SourceStatus, Store, log_rejected};
use crate::event::Event;
use crate::settings::KubernetesSettings;
use access::Access;
pub use access::KubernetesStartError;
pub use editor::KubernetesEditor;
pub use object::judge;
use progress::Progress;
use records::{Reading, Records, Report};
use session::{Session, SessionError};
use writer::Writer;

/// The first and the longest pause between two attempts to read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two readings of the records: an object at a time would make thousands of registries out
/// of one `kubectl apply`.
const BREATH: Duration = Duration::from_millis(20);

/// The registry's source in Kubernetes.
pub struct Kubernetes {
    settings: KubernetesSettings,
    access: Access,
    exchange: ExchangeConfig,
    records: Records,
    guard: Guard,
    last: Arc<Registry>,
    progress: Progress,
    /// What is to be said of each object.
    reports: Vec<Report>,
    /// When time alone changes something, ms since 1970.
    due: Option<u64>,
    first: Option<Session>,
    /// For who writes the statuses.
    view: watch::Sender<View>,
    listings: u64,
    /// The last wish for a full reading that was granted.
    reloaded: u64,
    /// The one that the reading under way will grant.
    wished: u64,
}

/// What there is to say, for who writes it.
#[derive(Debug, Clone)]
pub struct View {
    /// What is served.
    pub registry: Arc<Registry>,
    /// What became of each object.
    pub reports: Vec<Report>,
    /// Who runs it.
    pub progress: Progress,
    /// How often everything was read; what was written may be gone with the next time.
    pub listings: u64,
}

impl Kubernetes {
    /// Connects and reads the registry; there is nothing to fall back on yet, so an error is the
    /// end.
    pub async fn open(
        settings: KubernetesSettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, KubernetesStartError> {
        let access = Access::of(&settings).await?;
        access.check().await?;
        let empty = Arc::new(Registry::new(super::Listing::default(), exchange.clone()));
        let mut kubernetes = Kubernetes {
            guard: Guard::new(settings.guard_delay),
            settings,
            exchange,
            records: Records::default(),
            view: watch::Sender::new(View {
                registry: Arc::clone(&empty),
                reports: Vec::new(),
                progress: Progress::default(),
                listings: 0,
            }),
            last: empty,
            progress: Progress::default(),
            reports: Vec::new(),
            due: None,
            first: None,
            listings: 0,
            reloaded: 0,
            wished: 0,
            access,
        };
        let session = kubernetes.begin().await;
        let session = session.map_err(|why| kubernetes.access.unreadable(why.to_string()))?;
        kubernetes.settle(&session, true);
        kubernetes.first = Some(session);
        let place = kubernetes.place();
        info!(event = "registry_connected", "registry ✓ ({place})");
        Ok(kubernetes)
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.last)
    }

    /// The way to change it.
    pub fn editor(&self) -> KubernetesEditor {
        KubernetesEditor::new(&self.access)
    }

    /// Where it is.
    pub fn place(&self) -> String {
        let Access { url, namespace, .. } = &self.access;
        format!("Kubernetes at {url}, namespace {namespace}")
    }

    /// Keeps the outlets in step with the store, and the store told of what became of its objects,
    /// for as long as it is polled.
    pub async fn run(mut self, outlets: Outlets, feedback: Feedback) {
        self.view.send_replace(self.view());
        let views = self.view.subscribe();
        let writer = Writer::new(&self.access, self.settings.lease_duration, views, feedback);
        if let Some(first) = self.first.take() {
            tokio::join!(sessions::run(self, first, outlets), writer.run());
        }
    }

    async fn keep_up(
        &mut self,
        session: &mut Session,
        outlets: &Outlets,
    ) -> Result<Infallible, SessionError> {
        self.publish(session, outlets, true);
        let mut full = false;
        // From when news are to be read; `None`: there are none.
        let mut ready: Option<Instant> = None;
        let mut breath = Instant::now() + BREATH;
        let mut reloads = outlets.reloads.clone();
        loop {
            let (wake, list) = self.wake(session);
            // What came to need the endpoints of a Service is not served without them.
            let ripe = ready.filter(|_| session.settled());
            if ripe.is_some_and(|ripe| ripe <= Instant::now()) {
                self.publish(session, outlets, full);
                (ready, full) = (None, false);
                breath = Instant::now() + BREATH;
                continue;
            }
            tokio::select! {
                taken = session.next(&mut self.records) => {
                    let taken = taken?;
                    full |= taken.full;
                    self.listings += u64::from(taken.full);
                    if taken.full {
                        self.reloaded = self.wished;
                    }
                    if taken.news {
                        ready = Some(breath);
                    }
                }
                Ok(()) = reloads.changed() => {
                    self.wished = *reloads.borrow_and_update();
                    session.list_again();
                }
                () = sleep_until(ripe.unwrap_or(wake)) => match (ripe, list) {
                    (Some(_), _) => {}
                    (None, true) => session.list_again(),
                    (None, false) => {
                        session.listen_or_not(&self.records);
                        ready = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// When to look again if nothing is heard until then, and whether at everything.
    fn wake(&self, session: &Session) -> (Instant, bool) {
        let reconcile = session.listed + self.settings.reconcile_interval;
        let held = self.guard.wake();
        let mut full = held.map_or(reconcile, |held| held.min(reconcile));
        if session.listing.is_some() {
            // What is under way ends, or ends the session.
            full = Instant::now() + self.settings.reconcile_interval;
        }
        let due = self.due.map(|due| {
            let wait = due.saturating_sub(now());
            Instant::now() + Duration::from_millis(wait)
        });
        match due.into_iter().chain(session.retry()).min() {
            Some(due) if due < full => (due, false),
            _ => (full, true),
        }
    }

    /// Serves what the records make now, and says what became of them.
    fn publish(&mut self, session: &Session, outlets: &Outlets, full: bool) {
        let (events, held) = self.settle(session, full);
        outlets.status.send_replace(SourceStatus {
            error: None,
            store: Store::Up,
            home: super::Home::Kubernetes,
            listings: self.listings,
            synced: Some(Instant::now()),
            held,
            reloaded: self.reloaded,
            ..SourceStatus::default()
        });
        outlets.serve(&self.last);
        outlets.events(&events);
        self.view.send_replace(self.view());
    }

    fn view(&self) -> View {
        View {
            registry: Arc::clone(&self.last),
            reports: self.reports.clone(),
            progress: self.progress.clone(),
            listings: self.listings,
        }
    }

    /// Reads the records as the registry they make, and lets the guard judge it.
    fn settle(&mut self, session: &Session, full: bool) -> (Vec<Event>, Option<Held>) {
        let Reading {
            listing,
            reports,
            due,
        } = self.records.read(now(), session.blind());
        self.due = due;
        let next = Registry::new(listing, self.exchange.clone());
        let (mut events, held) = self.guard.rule(&self.last, &next, full);
        if held.is_some() {
            return (events, held);
        }
        self.reports = reports;
        log_rejected(&self.last.rejected, &next.rejected);
        events.extend(self.last.overrides.news(&next.overrides, now()));
        if next != *self.last {
            next.log_changed();
            self.progress.take(Some(&self.last), &next);
            self.last = Arc::new(next);
        }
        (events, None)
    }
}

impl Sessions for Kubernetes {
    type Session = Session;
    type Error = SessionError;

    const PAUSES: (Duration, Duration) = PAUSES;

    async fn begin(&mut self) -> Result<Session, SessionError> {
        let session = Session::begin(&self.access, &mut self.records).await?;
        self.listings += 1;
        self.guard.on_session(Instant::now());
        Ok(session)
    }

    fn grant(&mut self, wish: u64) {
        self.reloaded = wish;
    }

    async fn follow(
        &mut self,
        mut session: Session,
        outlets: &Outlets,
    ) -> Result<Infallible, SessionError> {
        self.keep_up(&mut session, outlets).await
    }

    fn place(&self) -> String {
        Kubernetes::place(self)
    }

    fn why(&self, error: &SessionError) -> String {
        error.to_string()
    }
}

/// ms since 1970, by this machine's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
