//! One request at a time, as `kubectl --raw` sends it: a client of our own, so that the library that
//! the sidecar uses is not tested against itself.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The way to an API server, and as whom.
#[derive(Clone)]
pub struct Way {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whom to trust, and who we are.
    pub tls: Arc<ClientConfig>,
    /// Who we are where no certificate says it.
    pub token: Option<String>,
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; a text where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a 2xx, else an error that says what was answered.
    pub fn ok(self) -> Result<Value> {
        anyhow::ensure!(self.status / 100 == 2, "{} {}", self.status, self.body);
        Ok(self.body)
    }
}

impl Way {
    /// Sends one request over a connection of its own.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Answer> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let server = ServerName::try_from(self.host.clone())?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(server, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request(method, path, body)?;
        let driver = tokio::spawn(connection);
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
            anyhow::Ok(Answer { status, body })
        };
        let answer = exchange.await;
        driver.abort();
        answer.with_context(|| path.to_owned())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut bytes = Bytes::new();
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind);
            bytes = Bytes::from(body.to_string());
        }
        Ok(request.body(Full::new(bytes))?)
    }
}
