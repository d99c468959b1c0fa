//! `/v1/clusters`: what is served, and the documents behind it. Writes go to the registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pointsman_filter::config::is_cluster_name;
use serde_json::Value;
use tokio::time::Instant;

use super::Admin;
use super::condition;
use super::failure::Failure;
use crate::api;
use crate::model::json;
use crate::registry::changes::Changes;
use crate::registry::document::Judge;
use crate::registry::edit::{ATTEMPTS_MAX, Document, Draft, EditError, Expect, Written};

/// What may stand behind the question mark.
type Asked = Query<BTreeMap<String, String>>;

/// What a write is to make of a document.
enum Change {
    Put(Value),
    Patch(Value),
    Delete,
}

/// All clusters as they are served.
pub async fn list(State(admin): State<Arc<Admin>>) -> Json<api::Clusters> {
    Json(admin.sources.clusters(Instant::now()))
}

/// One cluster's document as it stands in the registry.
pub async fn read(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name = cluster_name(name)?;
    let Some(document) = admin.editor.read(&name).await? else {
        return Err(missing(&name));
    };
    let etag = quoted(&document.etag);
    let head = [(CONTENT_TYPE, "application/json".to_owned()), (ETAG, etag)];
    Ok((head, document.text).into_response())
}

/// Writes a document.
pub async fn put(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let change = Change::Put(json_of(&body)?);
    admin.change(name, &asked, &headers, change).await
}

/// Changes fields of a document: a merge patch, as RFC 7396 has it.
pub async fn patch(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let change = Change::Patch(json_of(&body)?);
    admin.change(name, &asked, &headers, change).await
}

/// Deletes a document.
pub async fn delete(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    admin.change(name, &asked, &headers, Change::Delete).await
}

impl Admin {
    async fn change(
        &self,
        name: String,
        asked: &Asked,
        headers: &HeaderMap,
        change: Change,
    ) -> Result<Response, Failure> {
        let name = cluster_name(name)?;
        let expect = condition::read(headers)?;
        let dry_run = is_dry_run(asked)?;
        let (written, draft) = self.write(&name, &change, &expect, dry_run).await?;
        if written.before.is_none() && draft.is_none() {
            return Err(missing(&name));
        }
        let created = written.before.is_none();
        let before = written.before.as_ref().map(value);
        let mut answer = api::Written {
            cluster: name.clone(),
            created,
            changes: changes(before.as_ref(), draft.as_ref(), self.editor.judge()),
            ..api::Written::default()
        };
        if dry_run {
            answer.dry_run = true;
            answer.before = before;
            answer.after = draft.map(|it| it.value().clone());
            return Ok(Json(answer).into_response());
        }
        answer.etag.clone_from(&written.etag);
        let etag = written.etag.clone();
        let is = |registry: &crate::registry::Registry| registry.etags.get(&name) == etag.as_ref();
        answer.serving = Some(self.serving(is).await);
        let status = match created {
            true => StatusCode::CREATED,
            false => StatusCode::OK,
        };
        let mut response = (status, Json(answer)).into_response();
        if let Some(Ok(etag)) = written.etag.map(|etag| quoted(&etag).parse()) {
            response.headers_mut().insert(ETAG, etag);
        }
        Ok(response)
    }

    /// Judges and writes; what was there, and what was written.
    async fn write(
        &self,
        name: &str,
        change: &Change,
        expect: &Expect,
        dry_run: bool,
    ) -> Result<(Written, Option<Draft>), Failure> {
        let judge = self.editor.judge();
        for _ in 0..ATTEMPTS_MAX {
            let before = match change {
                Change::Patch(_) => self.editor.read(name).await?,
                _ if dry_run => self.editor.read(name).await?,
                _ => None,
            };
            if dry_run && !expect.admits(before.as_ref()) {
                return Err(EditError::Unexpected(before.map(|it| it.etag)).into());
            }
            let (draft, depends) = match (change, &before) {
                (Change::Put(document), _) => {
                    let draft = Draft::judge(name, document.clone(), judge)?;
                    (Some(draft), expect.clone())
                }
                (Change::Delete, _) => (None, expect.clone()),
                (Change::Patch(_), None) => return Err(missing(name)),
                (Change::Patch(patch), Some(before)) => {
                    if !expect.admits(Some(before)) {
                        return Err(EditError::Unexpected(Some(before.etag.clone())).into());
                    }
                    let mut document = value(before);
                    json_patch::merge(&mut document, patch);
                    let draft = Draft::judge(name, document, judge)?;
                    (Some(draft), Expect::OneOf(vec![before.etag.clone()]))
                }
            };
            if dry_run {
                let etag = None;
                return Ok((Written { before, etag }, draft));
            }
            let written = match &draft {
                Some(draft) => self.editor.write(draft, &depends).await,
                None => self.editor.delete(name, &depends).await,
            };
            match written {
                // Between reading and writing somebody else wrote: the patch is for what is there
                // now, unless the caller said for what it is.
                Err(EditError::Unexpected(_)) if depends != *expect => {}
                written => return Ok((written?, draft)),
            }
        }
        Err(EditError::Busy.into())
    }
}

/// `dryRun=true`: judge and compare, write nothing.
fn is_dry_run(Query(asked): &Asked) -> Result<bool, Failure> {
    let mut dry_run = false;
    for (name, value) in asked {
        dry_run = match (name.as_str(), value.as_str()) {
            ("dryRun", "true") => true,
            ("dryRun", "false") => false,
            ("dryRun", _) => return Err(Failure::request("dryRun: must be true or false")),
            _ => {
                return Err(Failure::request(format!(
                    "{name}: is not a known parameter"
                )));
            }
        };
    }
    Ok(dry_run)
}

fn cluster_name(name: String) -> Result<String, Failure> {
    match is_cluster_name(&name) {
        true => Ok(name),
        false => Err(Failure::request(format!(
            "{name:?} cannot be a cluster's name"
        ))),
    }
}

fn missing(name: &str) -> Failure {
    Failure::missing(format!("there is no document of cluster {name}"))
}

fn json_of(body: &Bytes) -> Result<Value, Failure> {
    json::read(body).map_err(|why| Failure::request(format!("must be JSON: {why}")))
}

/// A stored document; what is no JSON is a text.
fn value(document: &Document) -> Value {
    let text = || String::from_utf8_lossy(&document.text).into_owned();
    serde_json::from_slice(&document.text).unwrap_or_else(|_| text().into())
}

fn changes(before: Option<&Value>, after: Option<&Draft>, judge: Judge) -> Changes {
    let was = before.and_then(|it| judge(it).ok());
    let is = after.map(|it| it.cluster().clone());
    let mut changes = Changes::between(was.as_slice(), is.as_slice());
    // Which backends that makes is known once Services have been looked up.
    let services =
        |document: Option<&Value>| document.and_then(|it| it.get("backendsFrom")).cloned();
    changes.config_updated |= services(before) != services(after.map(Draft::value));
    changes
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// The most that a document may have, bytes.
pub const DOCUMENT_MAX: usize = 8 << 20;
