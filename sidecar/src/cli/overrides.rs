//! `pointsman cordon`, `drain` and `uncordon`.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use pointsman_filter::config::duration;
use serde_json::{Map, Value};

use super::AdminFlags;
use super::client::{Answer, Client, ClientError, path};
use super::format::Format;
use super::moment::{Moment, now};
use super::report::Report;
use super::wait;
use crate::api::Overridden;

/// A word on a backend.
#[derive(Args)]
pub struct SayFlags {
    #[command(flatten)]
    target: Target,
    /// Why; shown wherever the backend is
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER")]
    actor: Option<String>,
    /// For how long, such as 30s, 10m or 2h; until it is taken back if absent
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// Until when: as for --at
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, conflicts_with = "lasts")]
    until: Option<Moment>,
    /// Return once no proxy sends it a new request
    ///
    /// That is: every worker of every proxy that this sidecar knows (connected to it, or heard of
    /// within 30s) has reported, after the word was served, that it runs a registry in which the
    /// backend is out. A worker reports from its first request on, and is not counted after 5s of
    /// silence. Requests that began before may still run or be tried again there; the sidecar does
    /// not count them, but each Envoy logs event=backend_drained once its last one has ended. Exit
    /// code 3 if that takes longer than --timeout, or no proxy reports; the word holds all the same.
    #[arg(long, conflicts_with_all = ["delay", "at"])]
    wait: bool,
    /// How long --wait waits
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m",
        value_parser = patience,
        requires = "wait"
    )]
    timeout: Duration,
}

/// The end of one.
#[derive(Args)]
pub struct TakeBackFlags {
    #[command(flatten)]
    target: Target,
}

/// On what, when, and how to tell of it.
#[derive(Args)]
struct Target {
    /// The cluster's name
    cluster: String,
    /// The backend's id
    backend: String,
    /// Not now but after so long, whoever is running then
    #[arg(long = "in", value_name = "DURATION", conflicts_with = "at")]
    delay: Option<String>,
    /// Not now but at this time. A date and time such as 2026-11-21T22:00:00Z, or the next
    /// such time of day in UTC: 22:00 or 22:00:30
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    at: Option<Moment>,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

fn patience(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text).ok_or("must be a duration such as 30s, 10m or 2h")
}

/// Says a word.
pub async fn say(flags: &SayFlags, admin: &AdminFlags, act: &str) -> Result<Report, ClientError> {
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
    if let Some(until) = flags.until {
        let Some(end) = until.after(now()) else {
            return Ok(Report::failed("--until: has passed already"));
        };
        body.insert("expiresAt".to_owned(), end.into());
    }
    let target = &flags.target;
    if let Some(passed) = target.put_time(&mut body, "starts") {
        return Ok(passed);
    }
    let mut client = Client::open(admin).await?;
    let answer = target.ask(&mut client, act, body).await?;
    let mut report = target.report(&answer)?;
    if flags.wait {
        let (cluster, backend) = (target.cluster.as_str(), target.backend.as_str());
        let said: Overridden = answer.read()?;
        let served = said.serving.as_ref().is_some_and(|it| it.served);
        let waited = wait::until_out(&mut client, (cluster, backend), served, flags.timeout);
        report = waited.await?.report((cluster, backend), target.output);
        report.warnings.extend(warnings(target, &said, false));
    }
    Ok(report)
}

/// Takes it back.
pub async fn take_back(flags: &TakeBackFlags, admin: &AdminFlags) -> Result<Report, ClientError> {
    let (target, mut body) = (&flags.target, Map::new());
    if let Some(passed) = target.put_time(&mut body, "expires") {
        return Ok(passed);
    }
    let mut client = Client::open(admin).await?;
    let answer = target.ask(&mut client, "uncordon", body).await?;
    target.report(&answer)
}

impl Target {
    /// Puts the time at which something `starts` or `expires` into the request; or says that it has
    /// passed.
    fn put_time(&self, body: &mut Map<String, Value>, what: &str) -> Option<Report> {
        if let Some(delay) = &self.delay {
            body.insert(format!("{what}In"), delay.as_str().into());
        }
        if let Some(at) = self.at {
            let Some(at) = at.after(now()) else {
                return Some(Report::failed("--at: has passed already"));
            };
            body.insert(format!("{what}At"), at.into());
        }
        None
    }

    async fn ask(
        &self,
        client: &mut Client,
        act: &str,
        body: Map<String, Value>,
    ) -> Result<Answer, ClientError> {
        let Target {
            cluster, backend, ..
        } = self;
        let to = path(&["v1", "clusters", cluster, "backends", backend, act]);
        let body = Value::Object(body);
        client.ask(Method::POST, &to, None, Some(&body)).await
    }

    fn report(&self, answer: &Answer) -> Result<Report, ClientError> {
        let Target {
            cluster, backend, ..
        } = self;
        let said: Overridden = answer.read()?;
        let line = |_: &Value| {
            let state = said.word.state.as_deref().unwrap_or("free");
            format!("backend {cluster}/{backend} {state}\n")
        };
        Ok(Report {
            out: self.output.print(&answer.body, line),
            warnings: warnings(self, &said, true),
            ..Report::default()
        })
    }
}

/// What an operator might not expect; `now`: it is told right after the writing.
fn warnings(target: &Target, said: &Overridden, now: bool) -> Vec<String> {
    let absent = "there is no such backend now; the word holds once it comes";
    let late = "written, but not served yet";
    let told = [
        (!said.present, absent),
        (
            now && said.serving.as_ref().is_some_and(|it| !it.served),
            late,
        ),
    ];
    let place = format!("{}/{}", target.cluster, target.backend);
    let told = told.into_iter().filter(|(is, _)| *is);
    told.map(|(_, why)| format!("{place}: {why}")).collect()
}
