//! The registry in Kubernetes: the BackendClusters of one namespace, read and then watched.
//!
//! A session is one reading and the watch after it. Whatever goes wrong ends the session; the
//! registry of before serves on, and a new session starts over. [`records`] with [`object`] and
//! [`slices`] are the rules, [`session`] is the IO.

mod editor;
mod object;
mod records;
mod session;
mod sessions;
mod slices;
mod wishes;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::model::clock::now;
use crate::model::event::{Event, override_events};
use crate::registry::feeds::crd;
use crate::registry::guard::Guard;
use crate::registry::history::History;
use crate::registry::model::{
    Held, Listing, Output, Reachability, Registry, SourceStatus, StoreKind, log_rejected,
};
use crate::settings::KubernetesSettings;
use crate::stores::kubernetes::access::Access;
pub use crate::stores::kubernetes::access::KubernetesStartError;
pub use editor::KubernetesEditor;
pub use object::judge;
use records::{Reading, Records};
pub use records::{Report, Verdict};
use session::{Session, SessionError};
use sessions::Sessions;
use wishes::{Step, Wishes};

/// The first and the longest pause between two attempts to read.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two readings of the records: an object at a time would make thousands of registries out
/// of one `kubectl apply`.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// The registry's source in Kubernetes.
pub struct KubernetesFeed {
    settings: KubernetesSettings,
    access: Access,
    exchange: ExchangeConfig,
    records: Records,
    guard: Guard,
    last: Arc<Registry>,
    history: History,
    /// Which object has each cluster's name.
    owners: Arc<BTreeMap<String, String>>,
    /// What is to be said of each object.
    reports: Vec<Report>,
    /// When time alone changes something, ms since 1970.
    due: Option<u64>,
    first: Option<Session>,
    /// For who writes the statuses.
    view: watch::Sender<View>,
    listings: u64,
    wishes: Wishes,
}

/// What there is to say, for who writes it.
#[derive(Debug, Clone)]
pub struct View {
    /// What is served.
    pub registry: Arc<Registry>,
    /// What became of each object.
    pub reports: Vec<Report>,
    /// Which revisions there were before, and what each cluster was in them.
    pub history: History,
    /// Which object has each cluster's name, whether or not it is served.
    pub owners: Arc<BTreeMap<String, String>>,
    /// How often everything was read; what was written may be gone with the next time.
    pub listings: u64,
}

/// What is to be said of the objects, and the way to say it.
pub struct Statuses {
    /// The way to the API server.
    pub access: Access,
    /// How long a lease lasts.
    pub lease_duration: Duration,
    /// What is to be said.
    pub views: watch::Receiver<View>,
}

impl KubernetesFeed {
    /// Connects and reads the registry; there is nothing to fall back on yet, so an error is the
    /// end.
    pub async fn open(
        settings: KubernetesSettings,
        exchange: ExchangeConfig,
    ) -> Result<Self, KubernetesStartError> {
        let access = Access::of(&settings, crd::resource()).await?;
        access.check().await?;
        let empty = Arc::new(Registry::new(Listing::default(), exchange.clone()));
        let mut kubernetes = KubernetesFeed {
            guard: Guard::new(settings.guard_delay),
            settings,
            exchange,
            records: Records::default(),
            view: watch::Sender::new(View {
                registry: Arc::clone(&empty),
                reports: Vec::new(),
                history: History::default(),
                owners: Arc::default(),
                listings: 0,
            }),
            last: empty,
            history: History::default(),
            owners: Arc::default(),
            reports: Vec::new(),
            due: None,
            first: None,
            listings: 0,
            wishes: Wishes::default(),
            access,
        };
        let session = kubernetes.begin().await;
        let session = session.map_err(|why| kubernetes.access.unreadable(why.to_string()))?;
        kubernetes.rebuild(&session, true);
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
        KubernetesEditor::new(&self.access, self.view.subscribe())
    }

    /// Where it is.
    pub fn place(&self) -> String {
        let Access { url, namespace, .. } = &self.access;
        format!("Kubernetes at {url}, namespace {namespace}")
    }

    /// Keeps the output in step with the store for as long as it is polled.
    pub async fn run(mut self, output: Output) {
        self.view.send_replace(self.view());
        if let Some(first) = self.first.take() {
            sessions::run(self, first, output).await;
        }
    }

    /// What the writer of statuses needs.
    pub fn statuses(&self) -> Statuses {
        Statuses {
            access: self.access.clone(),
            lease_duration: self.settings.lease_duration,
            views: self.view.subscribe(),
        }
    }

    async fn follow_changes(
        &mut self,
        session: &mut Session,
        output: &Output,
    ) -> Result<Infallible, SessionError> {
        self.publish(session, output, true);
        let mut full = false;
        // From when news are to be read; `None`: there are none.
        let mut ready: Option<Instant> = None;
        let mut debounced = Instant::now() + DEBOUNCE;
        let mut reloads = output.reloads.clone();
        loop {
            let wish = *reloads.borrow_and_update();
            let Step { granted, list } = self.wishes.look(wish, session.is_listing());
            if granted {
                ready = ready.or(Some(debounced));
            }
            if list {
                session.list_again();
            }
            let (wake, list) = self.wake(session);
            if ready.is_some_and(|ready| ready <= Instant::now()) {
                self.publish(session, output, full);
                (ready, full) = (None, false);
                debounced = Instant::now() + DEBOUNCE;
                continue;
            }
            tokio::select! {
                taken = session.next(&mut self.records) => {
                    let taken = taken?;
                    full |= taken.full;
                    self.listings += u64::from(taken.full);
                    if taken.news {
                        ready = Some(debounced);
                    }
                }
                Ok(()) = reloads.changed() => {}
                () = sleep_until(ready.unwrap_or(wake)) => match (ready, list) {
                    (Some(_), _) => {}
                    (None, true) => session.list_again(),
                    (None, false) => {
                        session.listen_or_not(&mut self.records);
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
        if session.is_listing() {
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
    fn publish(&mut self, session: &Session, output: &Output, full: bool) {
        let (events, held) = self.rebuild(session, full);
        // Before the status: who waited for a reload looks at what is served.
        output.serve(&self.last);
        output.status.send_replace(SourceStatus {
            error: None,
            reachability: Reachability::Up,
            kind: StoreKind::Kubernetes,
            listings: self.listings,
            synced: Some(Instant::now()),
            held,
            reloaded: self.wishes.granted,
            ..SourceStatus::default()
        });
        output.report(events);
        self.view.send_replace(self.view());
    }

    fn view(&self) -> View {
        View {
            registry: Arc::clone(&self.last),
            reports: self.reports.clone(),
            history: self.history.clone(),
            owners: Arc::clone(&self.owners),
            listings: self.listings,
        }
    }

    /// Reads the records as the registry they make, and lets the guard judge it.
    fn rebuild(&mut self, session: &Session, full: bool) -> (Vec<Event>, Option<Held>) {
        let Reading {
            listing,
            reports,
            owners,
            due,
        } = self.records.read(now(), session.blind());
        self.due = due;
        self.owners = Arc::new(owners);
        let next = Registry::new(listing, self.exchange.clone());
        let (mut events, held) = self.guard.rule(&self.last, &next, full);
        if held.is_some() {
            return (events, held);
        }
        self.reports = reports;
        log_rejected(&self.last.rejected, &next.rejected);
        events.extend(override_events(
            &self.last.overrides,
            &next.overrides,
            now(),
        ));
        if next != *self.last {
            next.log_changed();
            self.history.take(Some(&self.last), &next);
            self.last = Arc::new(next);
        }
        (events, None)
    }
}

impl Sessions for KubernetesFeed {
    type Session = Session;
    type Error = SessionError;

    const BACKOFF: (Duration, Duration) = BACKOFF;

    async fn begin(&mut self) -> Result<Session, SessionError> {
        let session = Session::begin(&self.access, &mut self.records).await?;
        self.listings += 1;
        self.guard.on_session(Instant::now());
        Ok(session)
    }

    fn granted(&mut self, wish: u64) {
        // Once the slices are read again, too.
        self.wishes.take(wish);
    }

    async fn follow(
        &mut self,
        mut session: Session,
        output: &Output,
    ) -> Result<Infallible, SessionError> {
        self.follow_changes(&mut session, output).await
    }

    fn place(&self) -> String {
        KubernetesFeed::place(self)
    }

    fn why(&self, error: &SessionError) -> String {
        error.to_string()
    }
}
