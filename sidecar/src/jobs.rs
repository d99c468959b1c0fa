//! Work that outlives the process that took it on: many documents at once.
//!
//! A job is taken on once, under its id. Its steps are done one after the other, and each is written
//! together with the note that it is done: whoever goes on after a death neither leaves one out nor
//! does one twice. In demo mode jobs are in memory and end with the process.

mod memory;
mod redis;
mod request;

use pointsman_filter::config::ConfigErrors;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::registry::edit::Draft;
use crate::telemetry::events::Events;
pub use memory::MemoryQueue;
pub use redis::RedisQueue;

/// Most jobs that wait or are under way.
pub const DEPTH_MAX: u64 = 10_000;
/// Most jobs that a list names, the newest first.
pub const LISTED_MAX: usize = 100;

/// Documents that are to be written, whatever stood there.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name: taken on again under the same one, it is the same job.
    pub id: String,
    /// The documents: a step each.
    pub documents: Vec<Draft>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its turn has not come.
    Waiting,
    /// Some of it is done.
    Running,
    /// All of it is.
    Done,
    /// The store refused a step.
    Failed,
}

impl State {
    const ALL: [State; 4] = [State::Waiting, State::Running, State::Done, State::Failed];

    /// Its name, as users see it.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "Waiting",
            State::Running => "Running",
            State::Done => "Done",
            State::Failed => "Failed",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// Steps that are done.
    pub done: u64,
    /// All of its steps.
    pub total: u64,
    /// When it was taken on, ms of the store's clock.
    pub created: u64,
    /// When it was done or failed.
    pub finished: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Why a job was not taken on, or is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    /// What was asked for is wrong.
    #[error("{0}")]
    Wrong(ConfigErrors),
    /// There is no queue.
    #[error("this registry has no queue of jobs")]
    Disabled,
    /// Too many wait.
    #[error("{DEPTH_MAX} jobs wait already, try again later")]
    Full,
    /// The store is out of reach or in trouble.
    #[error("the queue's store is out of reach, or takes no writes now: {0}")]
    Unreachable(String),
    /// The store answers and refuses.
    #[error("the queue cannot be used: {0}")]
    Refused(String),
}

/// How the queue is doing, for those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueStatus {
    /// There is none.
    #[default]
    Disabled,
    /// In memory, with so many jobs that wait or are under way.
    Memory(u64),
    /// In Redis, which was not asked yet.
    Unread,
    /// In Redis.
    Up(u64),
    /// In Redis, which is out of reach or refuses.
    Down,
}

impl QueueStatus {
    /// How many jobs wait or are under way; unknown where there is no queue or it is out of reach.
    pub fn depth(self) -> Option<u64> {
        match self {
            QueueStatus::Memory(depth) | QueueStatus::Up(depth) => Some(depth),
            QueueStatus::Unread => Some(0),
            QueueStatus::Disabled | QueueStatus::Down => None,
        }
    }
}

/// Where jobs are kept.
#[derive(Clone)]
pub enum Queue {
    /// Nowhere: the registry's store has no place for them.
    Disabled,
    /// In memory.
    Memory(MemoryQueue),
    /// In Redis.
    Redis(Box<RedisQueue>),
}

impl Queue {
    /// How it is doing before anybody has looked.
    pub fn status(&self) -> QueueStatus {
        match self {
            Queue::Disabled => QueueStatus::Disabled,
            Queue::Memory(_) => QueueStatus::Memory(0),
            Queue::Redis(_) => QueueStatus::Unread,
        }
    }

    /// Takes on what the body of a request asks for, if nobody has under its id; `id` is the one
    /// of a job that names none.
    pub async fn take_on(&self, body: &Value, id: &str) -> Result<Progress, JobsError> {
        if matches!(self, Queue::Disabled) {
            return Err(JobsError::Disabled);
        }
        let job = request::read(body, id).map_err(JobsError::Wrong)?;
        match self {
            Queue::Disabled => return Err(JobsError::Disabled),
            Queue::Memory(memory) => memory.add(job.clone())?,
            Queue::Redis(redis) => redis.add(&job).await?,
        }
        let known = self.get(&job.id).await?;
        known.ok_or_else(|| JobsError::Refused("the job is gone already".to_owned()))
    }

    /// What is known of a job.
    pub async fn get(&self, id: &str) -> Result<Option<Progress>, JobsError> {
        match self {
            Queue::Disabled => Err(JobsError::Disabled),
            Queue::Memory(memory) => Ok(memory.get(id)),
            Queue::Redis(redis) => redis.get(id).await,
        }
    }

    /// The newest jobs.
    pub async fn list(&self) -> Result<Vec<Progress>, JobsError> {
        match self {
            Queue::Disabled => Err(JobsError::Disabled),
            Queue::Memory(memory) => Ok(memory.list()),
            Queue::Redis(redis) => redis.list().await,
        }
    }

    /// Does the jobs, one at a time, until told to stop.
    pub async fn run(
        self,
        status: watch::Sender<QueueStatus>,
        events: Events,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let working = async {
            match &self {
                Queue::Disabled => std::future::pending().await,
                Queue::Memory(memory) => memory.work(&status, &events).await,
                Queue::Redis(redis) => redis.work(&status, &events).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = working => {}
        }
        Ok(())
    }
}
