//! An answer that says why not: JSON with `error`, and for a document every error with its path.

use axum::Json;
use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pointsman_filter::config::ConfigErrors;

use crate::api::{Fault, WrongField};
use crate::registry::edit::EditError;

/// What our own answers are.
const JSON: &str = "application/json";

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    body: Fault,
}

impl Failure {
    /// A status and a sentence.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let body = Fault {
            error: why.into(),
            ..Fault::default()
        };
        Failure { status, body }
    }

    /// The request itself is not right.
    pub fn request(why: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, why)
    }

    /// There is no such thing.
    pub fn missing(why: impl Into<String>) -> Self {
        Failure::new(StatusCode::NOT_FOUND, why)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let error = errors.to_string();
        let wrong = errors.0.into_iter().map(|error| WrongField {
            path: error.path,
            why: error.why,
        });
        let body = Fault {
            error,
            errors: wrong.collect(),
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Failure { status, body }
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let status = match error {
            EditError::Unexpected(_) => StatusCode::PRECONDITION_FAILED,
            EditError::Busy | EditError::Deleting(_) => StatusCode::CONFLICT,
            EditError::NothingToEnd => StatusCode::NOT_FOUND,
            EditError::Unreachable(_) | EditError::Unwritable(_) => StatusCode::SERVICE_UNAVAILABLE,
            EditError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::new(status, error.to_string())
    }
}

/// Longest text of a refusal that is not ours, bytes.
const TEXT_MAX: usize = 4096;

/// Says in JSON what axum refuses by itself, in a text: a path, a query, a body.
pub async fn in_json(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(CONTENT_TYPE);
    if !is_error || kind.is_some_and(|kind| kind == JSON) {
        return response;
    }
    let text = to_bytes(response.into_body(), TEXT_MAX).await;
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let canonical = status.canonical_reason().unwrap_or_default();
    let why = if text.is_empty() {
        canonical.to_owned()
    } else {
        text
    };
    Failure::new(status, why).into_response()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
