//! The queue in Redis: a stream with a consumer group, a hash per job, and a sorted set of those
//! whose time has not come. All of it is the store's: any sidecar does any job.

mod script;
mod work;

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, RedisError};
use serde_json::Value;
use tokio::sync::Notify;

use super::{Act, DEPTH_MAX, Job, JobsError, LISTED_MAX, Progress, State};
use crate::settings::RedisSettings;
use crate::stores::redis::keeper::Keeper;
use crate::stores::redis::node;

/// The way to the queue; clones share one connection.
#[derive(Clone)]
pub struct RedisQueue {
    keeper: Keeper,
    consumer: String,
    news: Arc<Notify>,
}

impl RedisQueue {
    /// A queue in the registry's store; `consumer` tells this process from the others.
    pub fn new(settings: &RedisSettings, consumer: String) -> Self {
        RedisQueue {
            keeper: Keeper::new(settings),
            consumer,
            news: Arc::default(),
        }
    }

    /// The store's clock, ms.
    pub async fn now(&self) -> Result<u64, JobsError> {
        let mut time = Cmd::new();
        time.arg("TIME");
        let (seconds, micros): (u64, u64) = self.ask(&time).await.map_err(|it| self.told(&it))?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// Takes a job on, unless it is known.
    pub async fn add(&self, job: &Job) -> Result<(), JobsError> {
        let documents = match &job.act {
            Act::Apply(documents) => documents.iter().map(|it| it.value().clone()).collect(),
            Act::Say { .. } => Vec::new(),
        };
        let mut add = self.script(
            script::ADD,
            &[
                &self.job(&job.id),
                &self.stream(),
                &self.timed(),
                &self.all(),
            ],
        );
        add.arg(&job.id)
            .arg(job.at)
            .arg(job.act.summary().to_string());
        add.arg(Value::Array(documents).to_string());
        add.arg(job.act.total()).arg(DEPTH_MAX);
        match self.ask::<i64>(&add).await.map_err(|it| self.told(&it))? {
            -1 => Err(JobsError::Full),
            _ => {
                self.news.notify_one();
                Ok(())
            }
        }
    }

    /// What is known of a job.
    pub async fn get(&self, id: &str) -> Result<Option<Progress>, JobsError> {
        let found = self.read(&[id.to_owned()]).await;
        let found = found.map_err(|error| self.told(&error))?;
        Ok(found.into_iter().next())
    }

    /// The newest jobs.
    pub async fn list(&self) -> Result<Vec<Progress>, JobsError> {
        let mut newest = Cmd::new();
        newest
            .arg("ZREVRANGE")
            .arg(self.all())
            .arg(0)
            .arg(LISTED_MAX - 1);
        let listed = async { self.read(&self.ask::<Vec<String>>(&newest).await?).await };
        listed.await.map_err(|error| self.told(&error))
    }

    async fn read(&self, ids: &[String]) -> Result<Vec<Progress>, RedisError> {
        let mut pipe = Pipeline::new();
        let fields = [
            "act", "state", "done", "total", "created", "at", "finished", "error",
        ];
        for id in ids {
            pipe.cmd("HMGET").arg(self.job(id)).arg(&fields);
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut link = self.keeper.link().await?;
        let asked: Result<Vec<Vec<Option<String>>>, _> = link.query_all(&pipe).await;
        let answers = self.keeper.keep(link, asked)?;
        let known = ids.iter().zip(&answers);
        Ok(known
            .filter_map(|(id, fields)| progress(id, fields))
            .collect())
    }

    fn script(&self, text: &str, keys: &[&String]) -> Cmd {
        let mut eval = Cmd::new();
        eval.arg("EVAL").arg(text).arg(keys.len()).arg(keys);
        eval
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.keeper.query(command).await
    }

    fn told(&self, error: &RedisError) -> JobsError {
        let why = self.keeper.why(error);
        match node::is_refusal(error) {
            true => JobsError::Refused(why),
            false => JobsError::Unreachable(why),
        }
    }

    fn job(&self, id: &str) -> String {
        self.keeper.layout().queue(&format!("job:{id}"))
    }

    fn stream(&self) -> String {
        self.keeper.layout().queue("jobs")
    }

    fn timed(&self) -> String {
        self.keeper.layout().queue("jobs:timed")
    }

    fn all(&self) -> String {
        self.keeper.layout().queue("jobs:all")
    }
}

fn progress(id: &str, fields: &[Option<String>]) -> Option<Progress> {
    let text = |index: usize| fields.get(index).and_then(Option::as_deref);
    let number = |index: usize| text(index).and_then(|it| it.parse::<u64>().ok());
    Some(Progress {
        id: id.to_owned(),
        summary: serde_json::from_str(text(0)?).ok()?,
        state: State::of(text(1)?)?,
        done: number(2)?,
        total: number(3)?,
        created: number(4)?,
        at: number(5)?,
        finished: number(6),
        error: text(7).filter(|it| !it.is_empty()).map(str::to_owned),
    })
}
