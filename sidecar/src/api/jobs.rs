//! `/v1/jobs`: work that is to be done later, or takes long.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jobs::Progress;

/// The one thing that a job does.
pub const APPLY: &str = "apply";

/// The newest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Jobs {
    /// The newest first.
    pub jobs: Vec<Job>,
}

/// One job; times are ms since 1970 by the store's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// What it does.
    pub act: String,
    /// `Waiting`, `Running`, `Done` or `Failed`.
    pub state: String,
    /// Steps that are done.
    pub done: u64,
    /// All of its steps.
    pub total: u64,
    /// When it was taken on.
    pub created_at: u64,
    /// When it was done or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A job that is to be taken on.
#[derive(Debug, Clone, Serialize)]
pub struct Wanted<'a> {
    /// Its name: taken on again under the same one, it is the same job.
    pub id: &'a str,
    /// What it does.
    pub act: &'static str,
    /// The documents to write.
    pub documents: &'a [Value],
}

impl From<&Progress> for Job {
    fn from(job: &Progress) -> Self {
        Job {
            id: job.id.clone(),
            act: APPLY.to_owned(),
            state: job.state.name().to_owned(),
            done: job.done,
            total: job.total,
            created_at: job.created,
            finished_at: job.finished,
            error: job.error.clone(),
        }
    }
}
