//! `pointsman cordon`, `drain` and `uncordon`.

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value};

use super::AdminFlags;
use super::client::{Client, ClientError, path};
use super::jobs;
use super::report::Report;

/// A word on a backend.
#[derive(Args)]
pub struct SayFlags {
    /// The cluster's name
    cluster: String,
    /// The backend's id
    backend: String,
    /// Why; shown wherever the backend is
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER")]
    actor: Option<String>,
    /// For how long, such as 30s, 10m or 2h; until it is taken back if absent
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// Not now but after so long, whoever is running then: a job
    #[arg(long = "in", value_name = "DURATION")]
    delay: Option<String>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// The end of one.
#[derive(Args)]
pub struct TakeBackFlags {
    /// The cluster's name
    cluster: String,
    /// The backend's id
    backend: String,
    /// Not now but after so long, whoever is running then: a job
    #[arg(long = "in", value_name = "DURATION")]
    delay: Option<String>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Says a word.
pub async fn say(flags: &SayFlags, act: &str) -> Result<Report, ClientError> {
    let mut body = Map::new();
    for (field, text) in [
        ("reason", &flags.reason),
        ("actor", &flags.actor),
        ("expiresIn", &flags.lasts),
    ] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            body.insert(field.to_owned(), text.as_str().into());
        }
    }
    let SayFlags {
        cluster, backend, ..
    } = flags;
    match &flags.delay {
        Some(delay) => jobs::later(&flags.admin, &job(cluster, backend, act, delay, body)).await,
        None => ask(&flags.admin, cluster, backend, act, body).await,
    }
}

/// Takes it back.
pub async fn take_back(flags: &TakeBackFlags) -> Result<Report, ClientError> {
    let TakeBackFlags {
        cluster, backend, ..
    } = flags;
    let (act, body) = ("uncordon", Map::new());
    match &flags.delay {
        Some(delay) => jobs::later(&flags.admin, &job(cluster, backend, act, delay, body)).await,
        None => ask(&flags.admin, cluster, backend, act, body).await,
    }
}

fn job(
    cluster: &str,
    backend: &str,
    act: &str,
    delay: &str,
    mut body: Map<String, Value>,
) -> Value {
    let fields = [
        ("act", act),
        ("cluster", cluster),
        ("backend", backend),
        ("in", delay),
    ];
    body.extend(fields.map(|(field, text)| (field.to_owned(), text.into())));
    Value::Object(body)
}

async fn ask(
    admin: &AdminFlags,
    cluster: &str,
    backend: &str,
    act: &str,
    body: Map<String, Value>,
) -> Result<Report, ClientError> {
    let mut client = Client::open(admin).await?;
    let to = path(&["v1", "clusters", cluster, "backends", backend, act]);
    let body = Value::Object(body);
    let answer = client.ask(Method::POST, &to, None, Some(&body)).await?;
    Ok(report(cluster, backend, &answer.body))
}

fn report(cluster: &str, backend: &str, answer: &Value) -> Report {
    let state = answer["state"].as_str().unwrap_or("free");
    let mut report = Report::done(format!("backend {cluster}/{backend} {state}\n"));
    if answer["present"] == false {
        let why = "there is no such backend now; the word holds once it comes";
        report.warnings.push(format!("{cluster}/{backend}: {why}"));
    }
    if answer["served"] == false {
        let why = "written, but not served yet";
        report.warnings.push(format!("{cluster}/{backend}: {why}"));
    }
    report
}
