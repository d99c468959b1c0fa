//! The queue in Redis: a stream with a consumer group, and a hash per job. All of it is the store's:
//! any sidecar does any job.

mod script;
mod work;

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, RedisError};
use serde_json::Value;
use tokio::sync::Notify;

use super::{DEPTH_MAX, Job, JobsError, LISTED_MAX, Progress, State};
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

    /// Takes a job on, unless it is known.
    pub async fn add(&self, job: &Job) -> Result<(), JobsError> {
        let documents = job.documents.iter().map(|it| it.value().clone());
        let keys = [&self.job(&job.id), &self.stream(), &self.all()];
        let mut add = self.script(script::ADD, &keys);
        add.arg(&job.id)
            .arg(Value::Array(documents.collect()).to_string());
        add.arg(job.documents.len()).arg(DEPTH_MAX);
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
        let listed = async {
            let ids: Vec<Vec<u8>> = self.ask(&newest).await?;
            let ids = ids.into_iter().filter_map(|id| String::from_utf8(id).ok());
            self.read(&ids.collect::<Vec<_>>()).await
        };
        listed.await.map_err(|error| self.told(&error))
    }

    async fn read(&self, ids: &[String]) -> Result<Vec<Progress>, RedisError> {
        let mut pipe = Pipeline::new();
        let fields = ["state", "done", "total", "created", "finished", "error"];
        for id in ids {
            pipe.cmd("HMGET").arg(self.job(id)).arg(&fields);
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        pipe.ignore_errors();
        let mut link = self.keeper.link().await?;
        let asked: Result<Vec<Result<Fields, RedisError>>, _> = link.query_all(&pipe).await;
        let answers = self.keeper.keep(link, asked)?;
        let known = ids.iter().zip(&answers);
        // What holds no job is none.
        Ok(known
            .filter_map(|(id, fields)| progress(id, fields.as_ref().ok()?))
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

    fn all(&self) -> String {
        self.keeper.layout().queue("jobs:all")
    }
}

/// A job's fields as they stand there.
type Fields = Vec<Option<Vec<u8>>>;

fn progress(id: &str, fields: &[Option<Vec<u8>>]) -> Option<Progress> {
    let text = |index: usize| {
        let bytes = fields.get(index)?.as_deref()?;
        std::str::from_utf8(bytes).ok()
    };
    let number = |index: usize| text(index).and_then(|it| it.parse::<u64>().ok());
    Some(Progress {
        id: id.to_owned(),
        state: State::of(text(0)?)?,
        done: number(1)?,
        total: number(2)?,
        created: number(3)?,
        finished: number(4),
        error: text(5).filter(|it| !it.is_empty()).map(str::to_owned),
    })
}
