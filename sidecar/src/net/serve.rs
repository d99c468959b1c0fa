//! The one loop that serves a listener: how many connections there may be, and how long each may take.
//!
//! A loop of our own, because those of libraries set no limit and accept again at once when the
//! process has no descriptor left: callers that never end what they ask would use up the process's
//! descriptors, and keep it from its end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use super::caller::{Caller, HEAD_MAX};
use super::listener::{Accepted, Listener, Stream};

/// Largest head of a request, most that is read ahead of a body, and most of an answer that is copied
/// for a peer who takes it slowly, bytes.
const BUFFER_MAX: usize = 64 << 10;
/// How long answers may take that are under way when the sidecar is told to stop.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Rest after a connection could not be accepted: the process may have no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a silent peer is asked, over HTTP/2, whether it is still there, and how long it may
/// take to say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Most connections at a time; who comes after them waits to be accepted.
    pub connections_max: usize,
    /// Whether HTTP/2 is spoken beside HTTP/1.1. Its peers are told when the sidecar stops.
    pub http2: bool,
}

/// Serves until told to stop, then answers what was asked before. Each request is routed by what
/// `routes` holds when it comes.
pub async fn serve(
    listener: Listener,
    rules: Rules,
    routes: watch::Receiver<Router>,
    stop: CancellationToken,
) {
    let mut open = accept_from(|| listener.accept(), rules, routes, stop).await;
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Serves whom `accept` brings until told to stop; what is under way then.
async fn accept_from<F>(
    accept: impl Fn() -> F,
    rules: Rules,
    routes: watch::Receiver<Router>,
    stop: CancellationToken,
) -> JoinSet<()>
where
    F: Future<Output = io::Result<Accepted>>,
{
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return open,
            Some(_) = open.join_next() => {}
            accepted = accept(), if open.len() < rules.connections_max => match accepted {
                Ok((stream, peer)) => {
                    open.spawn(answer(stream, peer, rules, routes.clone(), stop.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Answers what one peer asks, for as long as it asks in time.
async fn answer(
    stream: Box<dyn Stream>,
    peer: Option<SocketAddr>,
    rules: Rules,
    routes: watch::Receiver<Router>,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let mut router = routes.borrow().clone();
        router.call(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        // What was asked is answered though nothing more will be heard.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_send_buf_size(BUFFER_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    if !rules.http2 {
        builder = builder.http1_only();
    }
    let caller = TokioIo::new(Caller::new(stream, stop.clone()));
    let mut connection = std::pin::pin!(builder.serve_connection(caller, service));
    tokio::select! {
        // How a connection ends is the peer's affair.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
    }
    // Over HTTP/1.1 the caller's stream ends by itself, when what was asked before has been read.
    if rules.http2 {
        connection.as_mut().graceful_shutdown();
    }
    tokio::select! {
        _ = connection => {}
        () = sleep(ANSWER_MAX) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use axum::extract::DefaultBodyLimit;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::settings::Listen;

    const RULES: Rules = Rules {
        connections_max: 2,
        http2: true,
    };

    fn routes() -> watch::Receiver<Router> {
        watch::Sender::new(Router::new().route("/", get(async || "ok"))).subscribe()
    }

    /// A listener on which these peers wait, then nobody; and how often it was asked.
    async fn accepted(
        waiting: &Mutex<Vec<DuplexStream>>,
        asked: &AtomicUsize,
    ) -> io::Result<Accepted> {
        asked.fetch_add(1, Ordering::Relaxed);
        let next = waiting.lock().unwrap().pop();
        match next {
            Some(stream) => Ok((Box::new(stream), None)),
            None => std::future::pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_descriptors_it_accepts_again_after_a_rest() {
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counting = Arc::clone(&asked);
        let accept = move || {
            counting.fetch_add(1, Ordering::Relaxed);
            async { Err(io::Error::from_raw_os_error(24)) }
        };
        let serving = accept_from(accept, RULES, routes(), stop);
        assert!(timeout(Duration::from_secs(1), serving).await.is_err());
        assert!(
            (9..12).contains(&asked.load(Ordering::Relaxed)),
            "{asked:?}"
        );
    }

    /// A body that is too long is refused while it is still being sent; both framings of HTTP/1.1.
    #[tokio::test]
    async fn who_is_refused_in_the_middle_of_a_body_is_told_and_not_reset() {
        let short = post(async |_: axum::body::Bytes| "read").layer(DefaultBodyLimit::max(1000));
        let routes = watch::Sender::new(Router::new().route("/", short));
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(&listen).await.unwrap();
        let address = listener.address().unwrap();
        let stop = CancellationToken::new();
        let serving = serve(listener, RULES, routes.subscribe(), stop.clone());
        let serving = tokio::spawn(serving);
        // 16 MiB, more than the system keeps for a reader.
        let part = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        for framing in ["content-length: 20000000", "transfer-encoding: chunked"] {
            let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let (mut answer, mut sender) = stream.into_split();
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
            let part = part.clone();
            let sending = tokio::spawn(async move {
                sender.write_all(head.as_bytes()).await?;
                for _ in 0..256 {
                    sender.write_all(&part).await?;
                }
                io::Result::Ok(())
            });
            let mut told = String::new();
            let read = timeout(Duration::from_secs(20), answer.read_to_string(&mut told)).await;
            read.expect("an end in time").expect("an end, not a reset");
            assert!(told.starts_with("HTTP/1.1 413 "), "{framing}: {told}");
            sending.await.unwrap().expect("all of it is heard");
        }
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_the_limit_waits_until_a_silent_one_is_let_go() {
        let (mut third, last) = duplex(1024);
        let (silent, ours): (Vec<_>, Vec<_>) = (0..2).map(|_| duplex(64)).unzip();
        third
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        // The last in the list comes first.
        let waiting = Mutex::new(std::iter::once(last).chain(ours).collect());
        let (asked, stop) = (AtomicUsize::new(0), CancellationToken::new());
        let serving = accept_from(|| accepted(&waiting, &asked), RULES, routes(), stop.clone());
        let mut serving = std::pin::pin!(serving);
        let soon = HEAD_MAX - Duration::from_secs(1);
        assert!(timeout(soon, serving.as_mut()).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let mut first = [0; 15];
        tokio::select! {
            _ = serving.as_mut() => unreachable!("nobody told it to stop"),
            read = third.read_exact(&mut first) => drop(read.unwrap()),
        }
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stop.cancel();
        let mut open = serving.await;
        while open.join_next().await.is_some() {}
        drop(silent);
    }
}
