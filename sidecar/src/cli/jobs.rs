//! What a command leaves to the sidecars: a job, taken on and perhaps waited for.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Client, ClientError, path};
use super::report::Report;
use crate::api::{APPLY, Job, Wanted};
use crate::jobs::State;

/// How often a job that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Has documents written under the name of a job, and waits until all of them are.
pub async fn apply(
    client: &mut Client,
    id: &str,
    documents: &[Value],
) -> Result<Report, ClientError> {
    let job = json!(Wanted {
        id,
        act: APPLY,
        documents,
    });
    let to = path(&["v1", "jobs"]);
    client.ask(Method::POST, &to, None, Some(&job)).await?;
    let to = path(&["v1", "jobs", id]);
    loop {
        let job: Job = client.get(&to).await?.read()?;
        let Job { done, total, .. } = job;
        match State::of(&job.state) {
            Some(State::Done) => {
                return Ok(Report::done(format!(
                    "job {id}: {done} of {total} written\n"
                )));
            }
            Some(State::Failed) => {
                let why = job.error.as_deref().unwrap_or("it says not why");
                let error = format!("job {id}: {done} of {total} written, then: {why}");
                return Ok(Report::failed(error));
            }
            _ => sleep(LOOK).await,
        }
    }
}
