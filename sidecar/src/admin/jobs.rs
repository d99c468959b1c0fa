//! Work that is to be done later, or takes long, over HTTP: taken on, listed, looked up.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use pointsman_filter::base::hash;
use serde_json::{Map, Value};

use super::Admin;
use super::failure::Failure;
use crate::api;
use crate::jobs::JobsError;
use crate::model::{json, random};

/// Longest request, bytes: thousands of documents.
pub const BODY_MAX: usize = 64 << 20;

/// Takes a job on; under an id that is known already nothing is done again.
pub async fn take_on(
    State(admin): State<Arc<Admin>>,
    body: Bytes,
) -> Result<(StatusCode, Json<api::Job>), Failure> {
    accepted(&admin, &read_json(&body)?).await
}

/// Takes on the writing of many documents: a list of them, or a container as a registry file is one.
pub async fn apply(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<Map<String, Value>>,
    body: Bytes,
) -> Result<(StatusCode, Json<api::Job>), Failure> {
    let mut body = read_json(&body)?;
    let documents = match body.get_mut("clusters") {
        Some(clusters) => clusters.take(),
        None => body,
    };
    let mut job = serde_json::json!({"act": api::APPLY, "documents": documents});
    for (name, value) in query {
        job[name] = value;
    }
    accepted(&admin, &job).await
}

/// The newest jobs.
pub async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<api::Jobs>, Failure> {
    let jobs = admin.queue.list().await?;
    let jobs = jobs.iter().map(api::Job::from).collect();
    Ok(Json(api::Jobs { jobs }))
}

/// One job.
pub async fn read(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<api::Job>, Failure> {
    let job = admin.queue.get(&id).await?;
    let job = job.ok_or_else(|| Failure::missing(format!("there is no job {id}")))?;
    Ok(Json(api::Job::from(&job)))
}

async fn accepted(admin: &Admin, body: &Value) -> Result<(StatusCode, Json<api::Job>), Failure> {
    let job = admin
        .queue
        .take_on(body, &hash::hex(random::draw()))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(api::Job::from(&job))))
}

fn read_json(body: &[u8]) -> Result<Value, Failure> {
    json::read(body).map_err(|why| Failure::request(format!("must be JSON: {why}")))
}

impl From<JobsError> for Failure {
    fn from(error: JobsError) -> Self {
        let status = match error {
            JobsError::Wrong(errors) => return errors.into(),
            JobsError::Disabled => StatusCode::NOT_IMPLEMENTED,
            JobsError::Full | JobsError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            JobsError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::new(status, error.to_string())
    }
}
