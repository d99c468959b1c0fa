//! Asking an admin API: who is asked, what is shown to be let in, and what the answer says.

use std::time::Duration;

use clap::Args;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, ETAG, HeaderName, HeaderValue};
use hyper::{Method, Request};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::report::Report;
use crate::api::Fault;
use crate::net::client::{self as http, CallError, Limits};

/// A reload waits for the store.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(40),
    body_max: 256 << 20,
};

/// Which sidecar, and how to be let in.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct AdminFlags {
    /// Where the sidecar's admin API listens
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "POINTSMAN_ADMIN_ADDRESS",
        default_value = "127.0.0.1:18080"
    )]
    pub address: String,
    /// Its token; the variable keeps it out of the list of processes
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "POINTSMAN_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
}

impl AdminFlags {
    /// The flags, by their names.
    pub const IDS: [&str; 2] = ["address", "token"];
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there, or not to be understood.
    #[error("cannot ask {whom} at {address}: {why}")]
    Unreachable {
        /// Which program.
        whom: &'static str,
        /// Where it should be.
        address: String,
        /// What became of it.
        why: CallError,
    },
    /// There can be no such path.
    #[error("{path}: {why}")]
    Path {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        why: hyper::http::uri::InvalidUri,
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
    whom: &'static str,
    address: String,
    authorization: Option<HeaderValue>,
    connection: http::Client,
}

/// Runs a command that asks a sidecar.
pub fn run(command: impl AsyncFnOnce() -> Result<Report, ClientError>) -> Report {
    wait_for(command()).map_or_else(|error| error, |told| told.unwrap_or_else(Report::failed))
}

/// Waits for what asks somebody; without a runtime there is only its failure to report.
pub fn wait_for<F: Future>(asking: F) -> Result<F::Output, Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let why = |error| Report::failed(format!("cannot start the runtime: {error}"));
    Ok(runtime.map_err(why)?.block_on(asking))
}

/// A path of the admin API: these segments, encoded.
pub fn path(segments: &[&str]) -> String {
    let encoded = segments
        .iter()
        .map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC));
    encoded.map(|segment| format!("/{segment}")).collect()
}

impl Client {
    /// Connects to a sidecar.
    pub async fn open(flags: &AdminFlags) -> Result<Self, ClientError> {
        let authorization = match flags.token.as_deref().filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value.map_err(|_| ClientError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Client::connect("the sidecar", &flags.address, authorization).await
    }

    /// Connects to Envoy's admin interface, which asks for no token.
    pub async fn envoy(address: &str) -> Result<Self, ClientError> {
        Client::connect("Envoy", address, None).await
    }

    async fn connect(
        whom: &'static str,
        address: &str,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, ClientError> {
        let address = address.trim_start_matches("http://").trim_end_matches('/');
        match http::Client::open(address, LIMITS).await {
            Ok(connection) => Ok(Client {
                whom,
                address: address.to_owned(),
                authorization,
                connection,
            }),
            Err(why) => Err(ClientError::Unreachable {
                whom,
                address: address.to_owned(),
                why,
            }),
        }
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
        *request.uri_mut() = path.parse().map_err(|why| ClientError::Path {
            path: path.to_owned(),
            why,
        })?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some((name, value)) = condition
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
        let answered = self.connection.call(request).await;
        let answered = answered.map_err(|why| ClientError::Unreachable {
            whom: self.whom,
            address: self.address.clone(),
            why,
        })?;
        let (head, body) = answered.into_parts();
        let text = || String::from_utf8_lossy(&body).trim().to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| text().into());
        if !head.status.is_success() {
            // Envoy's errors are texts.
            let fault = Fault::deserialize(&body).ok();
            let why = fault.map(|it| it.error).filter(|it| !it.is_empty());
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
