//! One sidecar at work: takes one job after the other and does what is left of it.

use std::time::Duration;

use redis::{Cmd, RedisError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{RedisQueue, script};
use crate::jobs::{QueueStatus, State};
use crate::model::event::Event;
use crate::stores::redis::layout::{self, Key};
use crate::stores::redis::node;
use crate::telemetry::events::Events;

const GROUP: &str = "sidecars";
/// How often a sidecar looks for jobs that others took on, or left behind.
const POLL: Duration = Duration::from_secs(1);
/// Documents per step: what a store is asked to do in one go.
const BATCH: usize = 50;
/// How long a job is known after its end.
const KEPT: Duration = Duration::from_secs(86_400);
/// A consumer that was silent for so long is gone.
const CONSUMER_GONE: Duration = Duration::from_secs(3600);

/// A job that was handed out.
struct Taken {
    entry: String,
    id: String,
}

/// What a poll found.
struct Found {
    taken: Option<Taken>,
    depth: u64,
}

/// Why a job was not done.
enum Failure {
    /// Somebody else does it.
    Overtaken,
    /// It cannot be done.
    Broken(String),
    /// The store's words.
    Store(RedisError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Failure::Store(error)
    }
}

impl RedisQueue {
    /// Does the jobs, for as long as it is polled.
    pub async fn work(&self, status: &watch::Sender<QueueStatus>, events: &Events) {
        let mut tidy = true;
        loop {
            let worked = async {
                if std::mem::take(&mut tidy) {
                    self.tidy().await?;
                }
                let found = self.next().await?;
                let before = status.send_replace(QueueStatus::Up(found.depth));
                if !matches!(before, QueueStatus::Up(_)) {
                    info!(event = "queue_connected", "queue ✓ (Redis)");
                }
                if let Some(taken) = &found.taken {
                    self.finish(taken, self.steps(taken).await, events).await?;
                }
                Ok::<Found, RedisError>(found)
            };
            match worked.await {
                Ok(Found { taken: Some(_), .. }) => continue,
                Ok(_) => {}
                Err(error) => {
                    // One line per edge: who is out of reach is asked again and again.
                    if status.send_replace(QueueStatus::Down) != QueueStatus::Down {
                        let (why, key) = (self.keeper.why(&error), self.stream());
                        warn!(
                            event = "queue_lost",
                            "the queue of jobs cannot be used ({key}): {why}"
                        );
                    }
                    tidy = true;
                }
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = self.news.notified() => {}
            }
        }
    }

    async fn tidy(&self) -> Result<(), RedisError> {
        let mut tidy = self.script(script::TIDY, &[&self.stream()]);
        tidy.arg(GROUP)
            .arg(&self.consumer)
            .arg(millis(CONSUMER_GONE));
        self.ask::<u64>(&tidy).await.map(drop)
    }

    async fn next(&self) -> Result<Found, RedisError> {
        let mut next = self.script(script::NEXT, &[&self.stream()]);
        let lease = millis(self.keeper.settings().lease_duration);
        next.arg(GROUP).arg(&self.consumer).arg(lease);
        let (entry, id, depth): (String, Vec<u8>, u64) = self.ask(&next).await?;
        // What is no text is nobody's id: there is nothing to do under it.
        let id = layout::text(&id);
        Ok(Found {
            taken: (!entry.is_empty()).then_some(Taken { entry, id }),
            depth,
        })
    }

    /// Does what is left of a job.
    async fn steps(&self, taken: &Taken) -> Result<(), Failure> {
        let mut read = Cmd::new();
        read.arg("HMGET").arg(self.job(&taken.id));
        read.arg(&["documents", "done"]);
        let fields: Vec<Option<Vec<u8>>> = self.ask(&read).await?;
        let [documents, Some(done)] = fields.as_slice() else {
            // Somebody deleted it: there is nothing to do.
            return Ok(());
        };
        let (documents, mut done) = job(documents.as_deref().unwrap_or(b"[]"), done)
            .ok_or_else(|| Failure::Broken("it is not what a sidecar wrote".to_owned()))?;
        while done < documents.len() {
            let to = documents.len().min(done + BATCH);
            if !self.apply(taken, done, &documents[done..to]).await? {
                return Err(Failure::Overtaken);
            }
            done = to;
        }
        Ok(())
    }

    async fn apply(
        &self,
        taken: &Taken,
        done: usize,
        documents: &[Value],
    ) -> Result<bool, RedisError> {
        let name = |document: &Value| document["name"].as_str().unwrap_or_default().to_owned();
        let key = |document: &Value| self.keeper.layout().write(&Key::Cluster(name(document)));
        let keys = documents.iter().map(key);
        let keys: Vec<String> = [self.job(&taken.id), self.stream()]
            .into_iter()
            .chain(keys)
            .collect();
        let keys: Vec<&String> = keys.iter().collect();
        let mut apply = self.script(script::APPLY, &keys);
        apply.arg(done).arg(done + documents.len());
        apply.arg(GROUP).arg(&self.consumer).arg(&taken.entry);
        for document in documents {
            apply.arg(document.to_string());
        }
        Ok(self.ask::<u64>(&apply).await? == 1)
    }

    async fn finish(
        &self,
        taken: &Taken,
        outcome: Result<(), Failure>,
        events: &Events,
    ) -> Result<(), RedisError> {
        let (state, why) = match outcome {
            Ok(()) => (State::Done, String::new()),
            Err(Failure::Overtaken) => return Ok(()),
            Err(Failure::Broken(why)) => (State::Failed, why),
            Err(Failure::Store(error)) if node::is_refusal(&error) => {
                (State::Failed, self.keeper.why(&error))
            }
            Err(Failure::Store(error)) => return Err(error),
        };
        let mut finish = self.script(script::FINISH, &[&self.job(&taken.id), &self.stream()]);
        finish
            .arg(GROUP)
            .arg(&taken.entry)
            .arg(state.name())
            .arg(&why);
        finish.arg(KEPT.as_secs());
        if self.ask::<u64>(&finish).await? == 1 {
            let job = taken.id.clone();
            let event = match state {
                State::Failed => Event::JobFailed { job, reason: why },
                _ => Event::JobDone { job },
            };
            events.report(event);
        }
        Ok(())
    }
}

/// A job's documents, and how many of them are done.
fn job(documents: &[u8], done: &[u8]) -> Option<(Vec<Value>, usize)> {
    let documents = serde_json::from_slice(documents).ok()?;
    let done = std::str::from_utf8(done).ok()?.parse().ok()?;
    Some((documents, done))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
