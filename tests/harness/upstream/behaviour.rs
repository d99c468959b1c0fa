//! What a backend does with a request.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::Received;

/// What a backend does with a request (and [`Behaviour::ResetOnAccept`] with a connection).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 with a JSON body: backend, method, path.
    Ok,
    /// Any other answer.
    Answer {
        /// The status code.
        status: u16,
        /// Header fields, such as `("retry-after", "5")`.
        headers: Vec<(&'static str, String)>,
    },
    /// An answer with a body.
    Says {
        /// The status code.
        status: u16,
        /// The body.
        body: &'static str,
    },
    /// Answers 200, late.
    Slow(Duration),
    /// Keeps the request until the behaviour changes, then does what it changed to.
    Hold,
    /// Resets new connections before a byte is read, and requests on older ones unanswered.
    ResetOnAccept,
    /// Reads the request and resets the connection instead of answering.
    ResetOnRequest,
    /// Answers this many requests of a connection and resets it at the next: a stale keep-alive.
    ResetAfter(usize),
    /// Reads the request and closes the connection in good order instead of answering.
    CloseOnRequest,
    /// h2: `RST_STREAM REFUSED_STREAM`. HTTP/1.1, which has no such word: as `ResetOnRequest`.
    RefuseStream,
    /// Answers and retires the connection: h2 `GOAWAY`, HTTP/1.1 `connection: close`.
    GoAway,
    /// gRPC: an answer of trailers only with this `grpc-status`.
    GrpcStatus(u8),
}

impl Behaviour {
    /// An answer with this status and nothing else.
    pub fn status(status: u16) -> Self {
        Behaviour::Answer {
            status,
            headers: Vec::new(),
        }
    }
}

/// What to do with one request, now.
pub(super) enum Act {
    Answer(Answer),
    /// Answer, then retire the connection.
    Retire(Answer),
    Reset,
    Close,
    RefuseStream,
}

/// An answer, for either protocol.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Act {
    /// What `behaviour` means for `request`.
    pub fn of(behaviour: &Behaviour, backend: &str, request: &Received) -> Act {
        match behaviour {
            Behaviour::Ok | Behaviour::Slow(_) | Behaviour::Hold => {
                Act::Answer(Answer::ok(backend, request))
            }
            Behaviour::Answer { status, headers } => {
                Act::Answer(Answer::plain(backend, *status, headers))
            }
            Behaviour::Says { status, body } => {
                let mut answer = Answer::plain(backend, *status, &[]);
                answer.body = Bytes::from_static(body.as_bytes());
                Act::Answer(answer)
            }
            Behaviour::ResetAfter(answered) if request.nth < *answered => {
                Act::Answer(Answer::ok(backend, request))
            }
            Behaviour::ResetOnAccept | Behaviour::ResetOnRequest | Behaviour::ResetAfter(_) => {
                Act::Reset
            }
            Behaviour::CloseOnRequest => Act::Close,
            Behaviour::RefuseStream => Act::RefuseStream,
            Behaviour::GoAway => Act::Retire(Answer::ok(backend, request)),
            Behaviour::GrpcStatus(status) => Act::Answer(Answer::grpc_status(backend, *status)),
        }
    }
}

impl Answer {
    fn ok(backend: &str, request: &Received) -> Self {
        let content_type = request.header("content-type").unwrap_or_default();
        if content_type.starts_with("application/grpc") {
            return Answer::grpc_echo(backend, request);
        }
        let path = request.path.as_str();
        let body = json!({"backend": backend, "method": request.method.as_str(), "path": path});
        let mut answer =
            Answer::plain(backend, 200, &[("content-type", "application/json".into())]);
        answer.body = Bytes::from(body.to_string());
        answer
    }

    fn grpc_echo(backend: &str, request: &Received) -> Self {
        let mut answer =
            Answer::plain(backend, 200, &[("content-type", "application/grpc".into())]);
        answer.body = Bytes::from(request.body.clone());
        answer.trailers = Some(fields(&[("grpc-status", "0".to_owned())]));
        answer
    }

    fn grpc_status(backend: &str, status: u8) -> Self {
        let content_type = ("content-type", "application/grpc".to_owned());
        Answer::plain(
            backend,
            200,
            &[content_type, ("grpc-status", status.to_string())],
        )
    }

    fn plain(backend: &str, status: u16, headers: &[(&'static str, String)]) -> Self {
        let mut headers = fields(headers);
        headers.extend(fields(&[("x-backend", backend.to_owned())]));
        let status = StatusCode::from_u16(status).expect("a story's status is between 100 and 999");
        Answer {
            status,
            headers,
            body: Bytes::new(),
            trailers: None,
        }
    }
}

fn fields(pairs: &[(&'static str, String)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, String)| {
        let value = HeaderValue::from_str(value).expect("a story's header value is printable");
        (HeaderName::from_static(name), value)
    };
    pairs.iter().map(field).collect()
}
