//! The client of the admin API: one connection, one request after the other.

use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, ETAG, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::report::Report;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take: a reload waits for the store.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// Longest answer that is read, bytes.
const BODY_MAX: usize = 256 << 20;

/// Which sidecar, and how to be let in.
#[derive(Args, Clone)]
pub struct AdminFlags {
    /// Where the sidecar's admin API listens
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "POINTSMAN_ADMIN_ADDRESS",
        default_value = "127.0.0.1:18080"
    )]
    address: String,
    /// Its token; the variable keeps it out of the list of processes
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "POINTSMAN_ADMIN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

impl AdminFlags {
    /// Another HTTP API, which asks for no token.
    pub fn of(address: &str) -> Self {
        AdminFlags {
            address: address.to_owned(),
            token: None,
        }
    }
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there, or not to be understood.
    #[error("cannot ask the sidecar at {address}: {why}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// The system's words.
        why: String,
    },
    /// Its answer is not what this release knows.
    #[error("the answer cannot be read: {0}")]
    Odd(String),
    /// The token cannot be sent.
    #[error("the token must be printable ASCII without spaces")]
    Token,
    /// It says no.
    #[error("{what}: {status}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The status code.
        status: u16,
        /// Its words.
        why: String,
    },
}

/// An answer that is not an error.
#[derive(Debug)]
pub struct Answer {
    /// What the document is; see `ETag`.
    pub etag: Option<String>,
    /// The body as JSON.
    pub body: Value,
    /// How far the clock of who answered is ahead of this machine's; see `Date`.
    pub ahead: Option<SignedDuration>,
}

impl Answer {
    /// What it says.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        T::deserialize(&self.body).map_err(|why| ClientError::Odd(why.to_string()))
    }
}

/// An open connection.
pub struct Client {
    address: String,
    authorization: Option<HeaderValue>,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Runs a command that asks a sidecar.
pub fn run(command: impl AsyncFnOnce() -> Result<Report, ClientError>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(command()).unwrap_or_else(Report::failed),
        Err(error) => Report::failed(format!("cannot start the runtime: {error}")),
    }
}

/// A path of the admin API: these segments, encoded.
pub fn path(segments: &[&str]) -> String {
    let encoded = segments
        .iter()
        .map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC));
    encoded.map(|segment| format!("/{segment}")).collect()
}

impl Client {
    /// Connects.
    pub async fn open(flags: &AdminFlags) -> Result<Self, ClientError> {
        let address = flags
            .address
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let authorization = match flags.token.as_deref().filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value.map_err(|_| ClientError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let unreachable = |why: String| ClientError::Unreachable {
            address: address.to_owned(),
            why,
        };
        let stream = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
        let stream = stream
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        Ok(Client {
            address: address.to_owned(),
            authorization,
            sender,
            // Its error reaches the request that waits for it.
            driver: tokio::spawn(async { drop(connection.await) }),
        })
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, None, None).await
    }

    /// The same, for what may not be there.
    pub async fn find(&mut self, path: &str) -> Result<Option<Answer>, ClientError> {
        match self.get(path).await {
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Any request, on a condition, with a JSON body.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        condition: Option<(HeaderName, String)>,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let what = format!("{method} {path}");
        let mut request = Request::new(Full::new(match body {
            Some(body) => Bytes::from(body.to_string()),
            None => Bytes::new(),
        }));
        *request.method_mut() = method;
        let unreachable = |why: String| ClientError::Unreachable {
            address: self.address.clone(),
            why,
        };
        let uri = path
            .parse()
            .map_err(|error| unreachable(format!("{path}: {error}")))?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.address.as_str()) {
            headers.insert(HOST, host);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some((name, value)) = condition
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
        let exchange = async {
            let answer = self.sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| error.to_string())?.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((head, body))
        };
        let answered = timeout(ANSWER_MAX, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let (head, body) = answered.map_err(unreachable)?;
        let text = || String::from_utf8_lossy(&body).trim().to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| text().into());
        if !head.status.is_success() {
            let why = body.get("error").and_then(Value::as_str).map(str::to_owned);
            return Err(ClientError::Refused {
                what,
                status: head.status.as_u16(),
                why: why.unwrap_or_else(text),
            });
        }
        let etag = head.headers.get(ETAG).and_then(|it| it.to_str().ok());
        let etag = etag.map(str::to_owned);
        let date = head.headers.get(DATE).and_then(|it| it.to_str().ok());
        let date = date.and_then(|it| rfc2822::DateTimeParser::new().parse_timestamp(it).ok());
        let ahead = date.map(|date| date.duration_since(Timestamp::now()));
        Ok(Answer { etag, body, ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_holds_any_name() {
        let encoded = path(&["v1", "clusters", "shop.eu/orders", "backends", "[::1]:80"]);
        assert_eq!(
            encoded,
            "/v1/clusters/shop%2Eeu%2Forders/backends/%5B%3A%3A1%5D%3A80"
        );
    }
}
