//! The admin listener's connections: how many there may be, and how long each may take.
//!
//! A loop of our own, because axum's sets no timer and no limit: callers that never end what they
//! ask would use up the process's descriptors, and keep it from its end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use crate::net::caller::{Caller, HEAD_MAX};

/// Most connections at a time; who comes after them waits to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Largest head of a request, and most that is read ahead of a body, bytes.
const BUFFER_MAX: usize = 64 << 10;
/// How long answers may take that are under way when the sidecar is told to stop.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Rest after a connection could not be accepted: the process may have no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then answers what was asked before.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    open.spawn(answer(stream, peer, router.clone(), stop.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Answers what one peer asks, for as long as it asks in time.
async fn answer(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let caller = TokioIo::new(Caller::new(stream, stop.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        // What was asked is answered though nothing more will be heard.
        .half_close(true)
        .serve_connection(caller, service);
    let too_late = async {
        stop.cancelled().await;
        sleep(ANSWER_MAX).await;
    };
    tokio::select! {
        // How a connection ends is the peer's affair.
        _ = connection => {}
        () = too_late => {}
    }
}
