//! Who may do what: the shipped RBAC manifest, for an API server that has no RBAC of its own.
//!
//! The server asks by a SubjectAccessReview, as it would ask a real cluster.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;

/// A right: groups, resources, verbs, and names where it is of these only.
type Rule = [Vec<String>; 4];

/// What was asked for and not granted, and what is not judged at all.
#[derive(Debug, Default)]
struct Book {
    refused: Vec<String>,
    broken: Option<String>,
    silent: Option<String>,
    unjudged: usize,
}

/// A running authorizer; dropping it ends it.
#[derive(Debug)]
pub struct Authorizer {
    port: Port,
    book: Arc<Mutex<Book>>,
    spoken: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Authorizer {
    /// Grants the user what these Roles of the manifest say; everybody else nothing.
    pub fn start(manifest: &str, roles: &[&str], user: &str) -> Result<Self> {
        let (port, book) = (Port::reserve()?, Arc::default());
        let spoken = Arc::new(Notify::new());
        let rules = Arc::new((rules(manifest, roles)?, user.to_owned()));
        let listener = port.listen()?;
        let told = (Arc::clone(&book), Arc::clone(&spoken));
        let serving = tokio::spawn(async move {
            // Aborted with this task, and it with the authorizer.
            let mut open = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                while open.try_join_next().is_some() {}
                let (rules, told) = (Arc::clone(&rules), told.clone());
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&rules), told.clone()));
                open.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Authorizer {
            port,
            book,
            spoken,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What was asked for and not granted, as `user verb resource`.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.book).refused.clone()
    }

    /// Judges nothing from now on where it is asked about this resource.
    pub fn break_for(&self, resource: Option<&str>) {
        lock(&self.book).broken = resource.map(str::to_owned);
    }

    /// Says nothing from now on where it is asked about this resource, until told otherwise.
    pub fn silence_for(&self, resource: Option<&str>) {
        lock(&self.book).silent = resource.map(str::to_owned);
        self.spoken.notify_waiters();
    }

    /// How often it was asked what it did not judge.
    pub fn unjudged(&self) -> usize {
        lock(&self.book).unjudged
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rules(manifest: &str, roles: &[&str]) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for part in manifest.split("\n---\n") {
        let part: Value = serde_saphyr::from_str(part).context("the RBAC manifest")?;
        let name = part["metadata"]["name"].as_str().unwrap_or("");
        if part["kind"] != "Role" || !roles.contains(&name) {
            continue;
        }
        for rule in part["rules"].as_array().into_iter().flatten() {
            let words = |field: &str| {
                let words = rule[field].as_array().into_iter().flatten();
                words
                    .filter_map(|it| it.as_str().map(str::to_owned))
                    .collect()
            };
            rules.push(["apiGroups", "resources", "verbs", "resourceNames"].map(words));
        }
    }
    Ok(rules)
}

async fn answer(
    request: Request<Incoming>,
    rules: Arc<(Vec<Rule>, String)>,
    (book, spoken): (Arc<Mutex<Book>>, Arc<Notify>),
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = &review["spec"]["resourceAttributes"];
    let word = |field: &str| asked[field].as_str().unwrap_or("");
    let user = review["spec"]["user"].as_str().unwrap_or("");
    let resource = match word("subresource") {
        "" => word("resource").to_owned(),
        sub => format!("{}/{sub}", word("resource")),
    };
    loop {
        let said = spoken.notified();
        tokio::pin!(said);
        said.as_mut().enable();
        if lock(&book).silent.as_ref() != Some(&resource) {
            break;
        }
        said.await;
    }
    if lock(&book).broken.as_ref() == Some(&resource) {
        lock(&book).unjudged += 1;
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    let has = |words: &[String], wanted: &str| words.iter().any(|word| word == wanted);
    let grants = |[groups, resources, verbs, names]: &Rule| {
        has(groups, word("group"))
            && has(resources, &resource)
            && has(verbs, word("verb"))
            && (names.is_empty() || has(names, word("name")))
    };
    let allowed = user == rules.1 && rules.0.iter().any(grants);
    if !allowed {
        let line = format!("{user} {} {resource}", word("verb"));
        lock(&book).refused.push(line);
    }
    review["status"] = json!({"allowed": allowed});
    let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
