//! One accepted connection: which protocol it speaks, and how it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::behaviour::{Act, Behaviour};
use super::{HEALTH_PATH, Received, State, http1, http2, lock};
use crate::wait::slowness;

/// How every HTTP/2 client begins.
const PREFACE_START: &[u8] = b"PRI";

/// What the requests of one connection share.
pub(super) struct Connection {
    pub id: usize,
    state: Arc<State>,
    served: AtomicUsize,
    /// Raised by a request that wants the connection gone with a reset.
    pub reset: Notify,
    /// Raised by a request that wants the connection closed, nothing answered.
    pub close: Notify,
    /// Raised by a request that wants no more requests after itself.
    pub retire: Notify,
    /// Left by the request that has turned the connection into a websocket.
    pub websocket: Mutex<Option<(OnUpgrade, Ticket)>>,
}

/// A request while it is in flight: here, and in the backend's records.
pub(super) struct Ticket {
    request: Received,
    health: bool,
    state: Arc<State>,
}

impl Connection {
    pub fn new(id: usize, state: Arc<State>) -> Arc<Self> {
        let (served, reset) = (AtomicUsize::new(0), Notify::new());
        let (close, retire) = (Notify::new(), Notify::new());
        let websocket = Mutex::default();
        Arc::new(Connection {
            id,
            state,
            served,
            reset,
            close,
            retire,
            websocket,
        })
    }

    /// Serves until the client, or one of its requests' behaviours, ends it.
    pub async fn serve(self: Arc<Self>, stream: TcpStream) {
        if *self.state.traffic.borrow() == Behaviour::ResetOnAccept {
            reset(&stream);
            return;
        }
        let mut start = [0; PREFACE_START.len()];
        // Fails, and so does TCP_NODELAY, when the client is gone: then there is nothing to serve.
        let Ok(length) = stream.peek(&mut start).await else {
            return;
        };
        let (Ok(()), Ok(handle)) = (
            stream.set_nodelay(true),
            stream.as_fd().try_clone_to_owned(),
        ) else {
            return;
        };
        let h2 = start[..length] == *PREFACE_START;
        tokio::select! {
            () = async {
                match h2 {
                    true => http2::serve(stream, Arc::clone(&self)).await,
                    false => http1::serve(stream, Arc::clone(&self)).await,
                }
            } => {}
            () = self.close.notified() => {}
            () = self.reset.notified() => reset::<OwnedFd>(&handle),
        }
    }

    /// Records a request whose head has come.
    pub fn arrived(&self, method: Method, path: String, headers: HeaderMap) -> Ticket {
        let health = path == HEALTH_PATH;
        let request = Received {
            method,
            path,
            headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
            at: Instant::now(),
            connection: self.id,
            nth: self.served.fetch_add(1, Ordering::Relaxed),
        };
        self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        lock(self.state.records(health)).push(request.clone());
        Ticket {
            request,
            health,
            state: Arc::clone(&self.state),
        }
    }
}

impl Ticket {
    /// Notes more of its body.
    pub fn body(&mut self, bytes: &[u8]) {
        self.note(|request| request.body.extend(bytes));
    }

    /// Notes what came behind its body.
    pub fn trailers(&mut self, trailers: Option<HeaderMap>) {
        let trailers = trailers.unwrap_or_default();
        self.note(|request| request.trailers.clone_from(&trailers));
    }

    fn note(&mut self, what: impl Fn(&mut Received)) {
        what(&mut self.request);
        let place = (self.request.connection, self.request.nth);
        let mut records = lock(self.state.records(self.health));
        // None: forgotten meanwhile, and nobody asks for it.
        let record = records
            .iter_mut()
            .rev()
            .find(|record| (record.connection, record.nth) == place);
        if let Some(record) = record {
            what(record);
        }
    }

    /// Decides, after the wait that the behaviour asks for; the request has been read.
    pub async fn act(&self) -> Act {
        let behaviours = if self.health {
            &self.state.health
        } else {
            &self.state.traffic
        };
        let mut behaviours = behaviours.subscribe();
        let behaviour = match behaviours.wait_for(|now| *now != Behaviour::Hold).await {
            Ok(behaviour) => behaviour.clone(),
            // The backend is being dropped, and this connection with it.
            Err(_) => Behaviour::ResetOnRequest,
        };
        if let Behaviour::Slow(delay) = behaviour {
            slowness(delay).await;
        }
        Act::of(&behaviour, &self.state.id, &self.request)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes the close of the socket, which the caller is about to drop, a reset.
fn reset<S: AsFd>(socket: &S) {
    // Fails only on a socket that is gone already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
