//! A client that keeps one connection, and with it one Envoy worker.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A request that takes longer than this has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header's first value as text; `None` when absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The backend that answered; `None` when Envoy or the filter did.
    pub fn backend(&self) -> Option<&str> {
        self.header("x-backend")
    }

    /// Fails unless it is this backend's 200.
    pub fn ensure_from(&self, backend: &str) -> Result<()> {
        let (status, by) = (self.status.as_u16(), self.backend());
        ensure!(
            (status, by) == (200, Some(backend)),
            "{status} of {by:?}, not of {backend}: {}",
            self.text()
        );
        Ok(())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }
}

/// An HTTP/1.1 client with at most one connection, opened when needed and kept while it lasts.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request without a body; add headers with [`hyper::Request::headers_mut`].
pub fn get(path: &str) -> Request<Full<Bytes>> {
    request(Method::GET, path, Bytes::new())
}

/// A POST.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, path, body.into())
}

/// Any request; the path must be a valid one.
pub fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("a story's path is valid");
    request
}

impl Client {
    /// A client of this address; nothing is sent yet.
    pub fn new(to: SocketAddr) -> Self {
        Client { to, open: None }
    }

    /// Opens the connection now, so that it is pinned to a worker before the first request.
    pub async fn connect(&mut self) -> Result<()> {
        self.sender().await.map(|_| ())
    }

    /// GET `path`.
    pub async fn get(&mut self, path: &str) -> Result<Response> {
        self.send(get(path)).await
    }

    /// GET `path` with these headers.
    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let mut request = get(path);
        for (name, value) in headers {
            let name: HeaderName = name.parse()?;
            request.headers_mut().insert(name, value.parse()?);
        }
        self.send(request).await
    }

    /// Asks the stories' own module for a fault.
    pub async fn fault(&mut self, kind: &str) -> Result<Response> {
        self.get_with("/", &[("x-fault", kind)]).await
    }

    /// Sends a request and reads the whole answer, within [`DEADLINE`]; never sends it again.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response> {
        let what = format!("{} {}", request.method(), request.uri());
        let result = timeout(DEADLINE, self.exchange(request)).await;
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {DEADLINE:?}")));
        if result.is_err() {
            self.open = None;
        }
        result.with_context(|| format!("{what} to {}", self.to))
    }

    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response> {
        if !request.headers().contains_key(HOST) {
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_static("story"));
        }
        let answer = self.sender().await?.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .context("the answer's body is cut off")?
            .to_bytes();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let mut kept = self.open.take();
        // Closed by the peer since the last answer: that is no error of the next request.
        if let Some(open) = &mut kept
            && open.sender.ready().await.is_err()
        {
            kept = None;
        }
        let open = match kept {
            Some(open) => open,
            None => Open::new(self.to).await?,
        };
        Ok(&mut self.open.insert(open).sender)
    }
}

impl Open {
    async fn new(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection's errors reach the request that waits for it.
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Open { sender, driver })
    }
}
