//! A backend that does as it is told, and remembers what reached it.
//!
//! It speaks HTTP/1.1 and h2c on one port (the first bytes decide), answers a websocket handshake
//! with an echo and a gRPC request with its own message. What it does with requests is a
//! [`Behaviour`], changed at run time; the health path has one of its own. What it does with
//! connections: [`Upstream::refuse`], [`Upstream::stop`], [`Upstream::start`].

mod behaviour;
mod black_hole;
mod connection;
mod http1;
mod http2;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use hyper::{HeaderMap, Method};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use behaviour::Behaviour;
pub use black_hole::BlackHole;

use crate::port::{Listener, Port};
use connection::Connection;

/// Requests to this path obey [`Upstream::set_health`] and are recorded apart.
pub const HEALTH_PATH: &str = "/healthz";

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Header fields, values as bytes; names in lower case.
    pub headers: HeaderMap,
    /// The body, as far as it has come.
    pub body: Vec<u8>,
    /// What came behind it.
    pub trailers: HeaderMap,
    /// When its head was complete.
    pub at: Instant,
    /// The connection it came on, as in [`Accepted::id`].
    pub connection: usize,
    /// Its place among the requests of its connection, from 0.
    pub nth: usize,
}

impl Received {
    /// A header's first value as text; `None` when absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A connection as it was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// 0, 1, 2 … in the order of arrival.
    pub id: usize,
    /// When.
    pub at: Instant,
}

/// One backend on a loopback port of its own; dropping it closes everything.
#[derive(Debug)]
pub struct Upstream {
    port: Port,
    state: Arc<State>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

/// What the connections of one backend share.
#[derive(Debug)]
struct State {
    id: String,
    traffic: watch::Sender<Behaviour>,
    health: watch::Sender<Behaviour>,
    next_connection: AtomicUsize,
    accepted: Mutex<Vec<Accepted>>,
    requests: Mutex<Vec<Received>>,
    probes: Mutex<Vec<Received>>,
    in_flight: AtomicUsize,
}

impl State {
    fn records(&self, health: bool) -> &Mutex<Vec<Received>> {
        if health { &self.probes } else { &self.requests }
    }
}

impl Upstream {
    /// A backend that listens and answers 200; `id` stands in each answer's `x-backend`.
    pub fn new(id: &str) -> Result<Self> {
        Self::on(Port::reserve()?, id)
    }

    /// The same on one port of every loopback address, 127.0.0.0/8: as many backends as are wanted.
    pub fn everywhere(id: &str) -> Result<Self> {
        Self::on(Port::reserve_everywhere()?, id)
    }

    fn on(port: Port, id: &str) -> Result<Self> {
        let state = State {
            id: id.to_owned(),
            traffic: watch::Sender::new(Behaviour::Ok),
            health: watch::Sender::new(Behaviour::Ok),
            next_connection: AtomicUsize::new(0),
            accepted: Mutex::default(),
            requests: Mutex::default(),
            probes: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        };
        let upstream = Upstream {
            port,
            state: Arc::new(state),
            acceptor: Mutex::default(),
            connections: Arc::default(),
        };
        upstream.start()?;
        Ok(upstream)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Its address; the same for life, also over [`Upstream::stop`] and [`Upstream::start`].
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What happens to requests from now on, and to those that are held right now.
    pub fn set(&self, behaviour: Behaviour) {
        self.state.traffic.send_replace(behaviour);
    }

    /// The same for [`HEALTH_PATH`].
    pub fn set_health(&self, behaviour: Behaviour) {
        self.state.health.send_replace(behaviour);
    }

    /// Refuses new connections from now on; open ones go on.
    pub async fn refuse(&self) {
        let acceptor = lock(&self.acceptor).take();
        if let Some(acceptor) = acceptor {
            acceptor.abort();
            // The listener is closed when the task is gone; its result is our own abort.
            let _ = acceptor.await;
        }
    }

    /// Closes every connection as a killed process does, requests under way included.
    pub async fn disconnect(&self) {
        let mut open = std::mem::take(&mut *lock(&self.connections));
        open.shutdown().await;
    }

    /// Dies: refuses connections and closes the open ones.
    pub async fn stop(&self) {
        self.refuse().await;
        self.disconnect().await;
    }

    /// Listens again after [`Upstream::refuse`] or [`Upstream::stop`], on the same address.
    pub fn start(&self) -> Result<()> {
        let mut acceptor = lock(&self.acceptor);
        if acceptor.is_none() {
            let (state, connections) = (Arc::clone(&self.state), Arc::clone(&self.connections));
            *acceptor = Some(tokio::spawn(accept(
                self.port.listen()?,
                state,
                connections,
            )));
        }
        Ok(())
    }

    /// Every connection accepted so far (a refused one never gets here).
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.state.accepted).clone()
    }

    /// Every request so far, but for those to [`HEALTH_PATH`].
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.state.requests).clone()
    }

    /// How many [`Upstream::requests`] there are.
    pub fn hits(&self) -> usize {
        lock(&self.state.requests).len()
    }

    /// Every request to [`HEALTH_PATH`] so far.
    pub fn probes(&self) -> Vec<Received> {
        lock(&self.state.probes).clone()
    }

    /// Requests that have arrived and are not answered yet; websockets too.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Forgets what has been recorded.
    pub fn forget(&self) {
        lock(&self.state.accepted).clear();
        lock(&self.state.requests).clear();
        lock(&self.state.probes).clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(acceptor) = lock(&self.acceptor).take() {
            acceptor.abort();
        }
        lock(&self.connections).abort_all();
    }
}

/// How many requests each backend got, by its id.
pub fn hits(upstreams: &[&Upstream]) -> BTreeMap<String, usize> {
    upstreams
        .iter()
        .map(|upstream| (upstream.id().to_owned(), upstream.hits()))
        .collect()
}

async fn accept(listener: Listener, state: Arc<State>, open: Arc<Mutex<JoinSet<()>>>) {
    loop {
        // An error is a connection that was gone before we took it: the next one counts.
        if let Ok((stream, _)) = listener.accept().await {
            let id = state.next_connection.fetch_add(1, Ordering::Relaxed);
            lock(&state.accepted).push(Accepted {
                id,
                at: Instant::now(),
            });
            let connection = Connection::new(id, Arc::clone(&state));
            let mut open = lock(&open);
            while open.try_join_next().is_some() {}
            open.spawn(connection.serve(stream));
        }
    }
}

/// A panic elsewhere has failed the test already; what it left is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
