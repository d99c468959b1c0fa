//! An answer that says why not: JSON with `error`, and for a document every error with its path.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pointsman_filter::config::ConfigErrors;

use crate::api::{Fault, WrongField};
use crate::registry::edit::EditError;

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

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        Failure::new(rejection.status(), rejection.body_text())
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let status = match error {
            EditError::Unexpected(_) => StatusCode::PRECONDITION_FAILED,
            EditError::Busy => StatusCode::CONFLICT,
            EditError::NothingToEnd => StatusCode::NOT_FOUND,
            EditError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            EditError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
