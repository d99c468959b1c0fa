//! Waits until every proxy acts on an operator's word.

use std::time::Duration;

use pointsman_filter::config::{State, duration};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::{Answer, Client, ClientError, path};
use super::format::Format;
use super::report::Report;
use crate::api::BackendReach;
use crate::fleet::Reach;

/// Longest time that the sidecar is asked to wait; the connection's answers have their own limit.
const HOLD: Duration = Duration::from_secs(10);
/// How often a word that is not served yet is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// What the waiting came to, with the sidecar's last answer.
pub struct Waited {
    end: End,
    answer: Answer,
    backend: BackendReach,
}

enum End {
    /// No proxy sends it a new request.
    Out,
    /// It takes requests again.
    Back,
    /// That was all the time there was.
    Late(Duration),
}

/// Waits until no proxy sends a backend new requests. `served`: the word is in force already.
pub async fn until_out(
    client: &mut Client,
    (cluster, backend): (&str, &str),
    mut served: bool,
    timeout: Duration,
) -> Result<Waited, ClientError> {
    let begun = Instant::now();
    let place = path(&["v1", "clusters", cluster, "backends", backend]);
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        let hold = left.min(HOLD).as_millis();
        let answer = client.get(&format!("{place}?wait={hold}ms")).await?;
        let found: BackendReach = answer.read()?;
        let is_out = !is_normal(&found);
        let end = match is_out {
            true if found.reach == Reach::Everywhere.name() => Some(End::Out),
            false if served => Some(End::Back),
            _ => left.is_zero().then_some(End::Late(timeout)),
        };
        if let Some(end) = end {
            return Ok(Waited {
                end,
                answer,
                backend: found,
            });
        }
        served |= is_out;
        if !is_out {
            sleep(LOOK.min(left)).await;
        }
    }
}

fn is_normal(backend: &BackendReach) -> bool {
    backend.state.as_deref() == Some(State::Normal.name())
}

impl Waited {
    /// What an operator is told.
    pub fn report(&self, (cluster, backend): (&str, &str), output: Format) -> Report {
        let (answer, found) = (&self.answer.body, &self.backend);
        let place = format!("backend {cluster}/{backend}");
        let why = match &self.end {
            End::Out => {
                let line = |_: &Value| {
                    let (proxies, state) = (found.proxies, &found.state);
                    let state = state.as_deref().unwrap_or("absent");
                    format!("{place} {state}: out of the way on all proxies ({proxies})\n")
                };
                return Report::done(output.print(answer, line));
            }
            End::Back => "it takes requests again: the word was taken back or has ended".to_owned(),
            End::Late(timeout) => {
                let after = duration::print(*timeout);
                let why = match (is_normal(found), found.behind.as_slice()) {
                    (true, _) => "the word is not served".to_owned(),
                    (false, []) => "no proxy reports to this sidecar".to_owned(),
                    (false, behind) => {
                        format!("not obeyed by all workers of {}", behind.join(", "))
                    }
                };
                format!("time is up after {after}: {why}")
            }
        };
        Report {
            // For people the error says it all.
            out: match output {
                Format::Table => String::new(),
                output => output.print(answer, |_| String::new()),
            },
            late: matches!(self.end, End::Late(_)),
            ..Report::failed(format!("{place}: {why}"))
        }
    }
}
