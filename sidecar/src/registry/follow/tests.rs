//! The loop over a feed written by hand, in paused time.

mod losses;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use pointsman_filter::config::{ClusterConfig, ExchangeConfig};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::model::overrides::Override;
use crate::registry::Published;
use crate::registry::model::StoreKind;
use crate::registry::record::{Document, Record, Registered, Wanted, What};
use crate::telemetry::events::Events;

const RECONCILE: Duration = Duration::from_secs(30);
const GUARD: Duration = Duration::from_secs(5);
/// What the store's clock says at first, ms.
const START: u64 = 1_700_000_000_000;

/// The clusters of the store, with the ports of their backends.
type Shelf = Arc<Mutex<BTreeMap<String, u16>>>;

struct Hand {
    shelf: Shelf,
    heard: mpsc::UnboundedReceiver<Result<News, FeedError>>,
    begun: Instant,
    /// How long a full reading takes.
    slow: Duration,
    /// Attempts to open it that fail.
    closed: Arc<Mutex<u32>>,
    /// How far its clock was set ahead, ms.
    ahead: Arc<AtomicI64>,
    /// Backends that registered themselves with a cluster `a`, and their heartbeats.
    guests: Arc<Mutex<BTreeMap<String, u64>>>,
    /// The overrides on its backends.
    overrides: Arc<Mutex<BTreeMap<String, Override>>>,
}

impl Feed for Hand {
    const KIND: StoreKind = StoreKind::Redis;
    const UP: Reachability = Reachability::Up;
    const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

    async fn open(&mut self) -> Result<(), FeedError> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match closed.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                *closed = left;
                Err(FeedError("closed".to_owned()))
            }
        }
    }

    async fn list(&mut self) -> Result<Vec<Record>, FeedError> {
        sleep(self.slow).await;
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let documents = shelf.iter().map(|(name, port)| document(name, *port));
        let guests = guests.iter().map(|(id, beat)| guest(id, *beat));
        let overrides = self
            .overrides
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let overrides = overrides_of(&overrides);
        Ok(documents.chain(guests).chain([overrides]).collect())
    }

    async fn next(&mut self) -> Result<News, FeedError> {
        let ended = || Err(FeedError("ended".to_owned()));
        self.heard.recv().await.unwrap_or_else(ended)
    }

    fn now(&self) -> u64 {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        START.saturating_add_signed(self.ahead.load(Relaxed)) + passed
    }

    fn place(&self) -> String {
        "a store by hand".to_owned()
    }
}

fn document(name: &str, port: u16) -> Record {
    let backend = json!({"address": format!("10.0.0.1:{port}")});
    let document = json!({"name": name, "backends": [backend]});
    Record {
        place: name.to_owned(),
        rank: 0,
        what: What::Document(Document {
            claim: Some(name.to_owned()),
            title: name.to_owned(),
            etag: document.to_string(),
            overrides: Ok(BTreeMap::new()),
            object: None,
            judge: Box::new(move || ClusterConfig::parse(&document).map(Wanted::from)),
        }),
    }
}

/// A backend that registered itself, and its heartbeat.
fn guest(id: &str, beat: u64) -> Record {
    let document = json!({"name": "a", "backends": [{"id": id, "address": "10.0.0.9:9"}]});
    let read = ClusterConfig::parse(&document).map(|mut it| it.backends.remove(0));
    let said = Registered {
        read,
        heartbeat: Some(beat.to_string().into_bytes()),
    };
    let (cluster, id) = ("a".to_owned(), id.to_owned());
    Record {
        place: format!("guest {id}"),
        rank: 0,
        what: What::Backend { cluster, id, said },
    }
}

/// The overrides on the backends of the cluster `a`.
fn overrides_of(overrides: &BTreeMap<String, Override>) -> Record {
    let read = overrides.clone().into_iter();
    let read = Ok(read.map(|(id, entry)| (id, Ok(entry))).collect());
    let cluster = "a".to_owned();
    Record {
        place: "o".to_owned(),
        rank: 0,
        what: What::Overrides { cluster, read },
    }
}

struct Scene {
    overrides: Arc<Mutex<BTreeMap<String, Override>>>,
    shelf: Shelf,
    ahead: Arc<AtomicI64>,
    guests: Arc<Mutex<BTreeMap<String, u64>>>,
    tell: mpsc::UnboundedSender<Result<News, FeedError>>,
    closed: Arc<Mutex<u32>>,
    published: watch::Receiver<Published>,
    status: watch::Receiver<SourceStatus>,
    reloads: watch::Sender<u64>,
    events: Events,
    told: watch::Receiver<Told>,
    running: JoinHandle<()>,
}

impl Scene {
    /// A store with one cluster `a`, followed.
    async fn start(slow: Duration) -> Self {
        Self::start_wishing(slow, 0).await
    }

    /// The same, while somebody wishes for a reload already.
    async fn start_wishing(slow: Duration, wish: u64) -> Self {
        let shelf: Shelf = Shelf::default();
        shelf.lock().unwrap().insert("a".to_owned(), 1);
        let (tell, heard) = mpsc::unbounded_channel();
        let closed = Arc::default();
        let (ahead, guests) = (Arc::<AtomicI64>::default(), Arc::default());
        let overrides = Arc::default();
        let hand = Hand {
            shelf: Arc::clone(&shelf),
            heard,
            begun: Instant::now(),
            slow,
            closed: Arc::clone(&closed),
            ahead: Arc::clone(&ahead),
            guests: Arc::clone(&guests),
            overrides: Arc::clone(&overrides),
        };
        let exchange = ExchangeConfig {
            cluster: "pointsman_sidecar".to_owned(),
            token: String::new(),
            verdict_ttl: RECONCILE,
        };
        let mut follower = Follower::new(hand, Engine::new(exchange, GUARD), RECONCILE);
        follower.open().await.unwrap();
        follower.read().await.unwrap();
        let published = watch::Sender::new(Some(follower.registry()));
        let (status, reloads) = (watch::Sender::default(), watch::Sender::new(0));
        let events = Events::default();
        let told = follower.told();
        let (published_to, status_to) = (published.subscribe(), status.subscribe());
        let output = Output {
            published,
            status,
            events: events.clone(),
            reloads: reloads.subscribe(),
        };
        if wish > 0 {
            reloads.send_replace(wish);
        }
        let scene = Scene {
            shelf,
            ahead,
            guests,
            overrides,
            tell,
            closed,
            published: published_to,
            status: status_to,
            reloads,
            events,
            told,
            running: tokio::spawn(follower.run(output)),
        };
        sleep(Duration::from_millis(1)).await;
        scene
    }

    fn set(&self, name: &str, port: u16) {
        self.shelf.lock().unwrap().insert(name.to_owned(), port);
    }

    /// The same, and its notice is heard.
    fn change(&self, name: &str, port: u16) {
        self.set(name, port);
        let news = News::Some(vec![document(name, port)]);
        assert!(self.tell.send(Ok(news)).is_ok());
    }

    fn port(&self, name: &str) -> Option<u16> {
        let registry = self.published.borrow().clone()?;
        let mut clusters = registry.config.clusters.iter();
        let found = clusters.find(|it| it.name == name)?;
        Some(found.backends[0].address.port())
    }

    /// Sets these overrides on the backends of the cluster `a`, and their notice is heard.
    fn set_overrides<const N: usize>(&self, overrides: [(&str, serde_json::Value); N]) {
        let read = |it: serde_json::Value| Override::read("x", &it).unwrap();
        let overrides = overrides.map(|(id, it)| (id.to_owned(), read(it))).into();
        let record = overrides_of(&overrides);
        *self.overrides.lock().unwrap() = overrides;
        assert!(self.tell.send(Ok(News::Some(vec![record]))).is_ok());
    }

    /// How often this event was reported.
    fn count(&self, event: &str) -> u64 {
        let counts = self.events.counts();
        let found = counts.iter().find(|(name, _)| *name == event);
        found.map_or(0, |(_, count)| *count)
    }

    fn listings(&self) -> u64 {
        self.status.borrow().listings
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_time_is_served_at_once_and_more_are_gathered() {
    let mut scene = Scene::start(Duration::ZERO).await;
    pass(100).await;
    scene.published.mark_unchanged();
    scene.change("a", 2);
    pass(1).await;
    assert_eq!(scene.port("a"), Some(2));
    let mut registries = 0;
    for port in 3..103 {
        scene.change("a", port);
        pass(1).await;
        registries += u32::from(scene.published.has_changed().unwrap());
        scene.published.mark_unchanged();
    }
    assert!((4..=6).contains(&registries), "{registries} in 100 ms");
    pass(30).await;
    assert_eq!(scene.port("a"), Some(102));
}

#[tokio::test(start_paused = true)]
async fn a_lost_notice_is_made_up_for_by_the_next_full_reading() {
    let scene = Scene::start(Duration::ZERO).await;
    scene.set("b", 7);
    pass(29_000).await;
    assert_eq!((scene.port("b"), scene.listings()), (None, 1));
    pass(1_100).await;
    assert_eq!((scene.port("b"), scene.listings()), (Some(7), 2));
    assert!(scene.tell.send(Ok(News::Anything)).is_ok());
    pass(1).await;
    assert_eq!(scene.listings(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_granted_when_what_it_read_is_served() {
    let mut scene = Scene::start(Duration::from_millis(100)).await;
    scene.set("a", 9);
    scene.reloads.send_replace(1);
    scene
        .status
        .wait_for(|status| status.reloaded == 1)
        .await
        .unwrap();
    assert_eq!(scene.port("a"), Some(9));
    assert_eq!(scene.listings(), 2);
    // A new session does not read twice because somebody wished for a reload before it.
    assert!(scene.tell.send(Err(FeedError("gone".to_owned()))).is_ok());
    pass(1_000).await;
    assert_eq!(scene.listings(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_wished_for_before_the_loop_begins_is_granted() {
    let scene = Scene::start_wishing(Duration::ZERO, 1).await;
    assert_eq!(scene.status.borrow().reloaded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_reloads_keeps_nothing_from_being_served() {
    let scene = Scene::start(Duration::from_millis(100)).await;
    let mut worst = 0;
    for wish in 1..500 {
        scene.reloads.send_replace(wish);
        if wish % 50 == 0 {
            let port = u16::try_from(wish).unwrap();
            scene.change("a", port);
            let begun = Instant::now();
            while scene.port("a") != Some(port) {
                pass(1).await;
            }
            worst = worst.max(begun.elapsed().as_millis());
        }
        pass(7).await;
    }
    assert!(worst <= 250, "{worst} ms");
}

#[tokio::test(start_paused = true)]
async fn what_time_alone_changes_is_done_when_it_is_due_and_once() {
    let scene = Scene::start(Duration::ZERO).await;
    let cordon = json!({"state": "Cordoned", "expiresAt": START + 2_000});
    scene.set_overrides([("10.0.0.1:1", cordon)]);
    let cordoned = |scene: &Scene| {
        let registry = scene.published.borrow().clone().unwrap();
        registry.config.clusters[0].backends[0].state.name() == "Cordoned"
    };
    pass(1_900).await;
    assert!(cordoned(&scene));
    pass(101).await;
    assert!(!cordoned(&scene));
    let expired = ("override_expired", 1);
    assert!(scene.events.counts().contains(&expired));
    // Nothing is due any more: no registry is made until the next full reading.
    let mut told = scene.told.clone();
    told.mark_unchanged();
    pass(20_000).await;
    assert!(!told.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_less_and_less_often_and_the_last_registry_serves() {
    let scene = Scene::start(Duration::ZERO).await;
    *scene.closed.lock().unwrap() = 4;
    assert!(scene.tell.send(Err(FeedError("gone".to_owned()))).is_ok());
    pass(1).await;
    let status = scene.status.borrow().clone();
    assert_eq!(status.reachability, Reachability::Down);
    assert_eq!(status.error.as_deref(), Some("a store by hand: gone"));
    assert_eq!(scene.port("a"), Some(1));
    scene.set("a", 5);
    // 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s.
    pass(2_900).await;
    assert_eq!(scene.port("a"), Some(1));
    pass(300).await;
    assert_eq!(scene.port("a"), Some(5));
    let counts = scene.events.counts();
    assert!(counts.contains(&("registry_lost", 1)), "{counts:?}");
    assert!(counts.contains(&("registry_restored", 1)), "{counts:?}");
    // Who wishes for a reload meanwhile is asked for at once.
    *scene.closed.lock().unwrap() = 1;
    assert!(scene.tell.send(Err(FeedError("gone".to_owned()))).is_ok());
    pass(1).await;
    scene.reloads.send_replace(1);
    pass(1).await;
    assert_eq!(*scene.closed.lock().unwrap(), 0);
}
