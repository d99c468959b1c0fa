//! One request at a time, as `kubectl --raw` sends it: a client of our own, so that the library that
//! the sidecar uses is not tested against itself.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a 2xx, else an error that says what was answered.
    pub fn ok(self) -> Result<Value> {
        anyhow::ensure!(self.status / 100 == 2, "{} {}", self.status, self.body);
        Ok(self.body)
    }
}

/// Sends one request over a connection of its own.
pub async fn ask(
    to: SocketAddr,
    tls: &Arc<ClientConfig>,
    method: Method,
    path: &str,
    body: Option<(&str, &Value)>,
) -> Result<Answer> {
    let stream = TcpStream::connect(to).await?;
    let server = ServerName::try_from("localhost")?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(server, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, to.to_string())
        .header(ACCEPT, "application/json");
    let mut bytes = Bytes::new();
    if let Some((kind, body)) = body {
        request = request.header(CONTENT_TYPE, kind);
        bytes = Bytes::from(body.to_string());
    }
    let request = request.body(Full::new(bytes))?;
    let driver = tokio::spawn(connection);
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        anyhow::Ok(Answer { status, body })
    };
    let answer = exchange.await;
    driver.abort();
    answer.with_context(|| path.to_owned())
}
