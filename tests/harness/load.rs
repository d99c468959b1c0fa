//! Many requests at a time, counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::Mutex as Turn;
use tokio::task::JoinSet;
use tokio::time::Interval;

use crate::client::{Client, Response};
use crate::wait::{beat, eventually};

/// So many failures are kept word for word.
const FAILURES_KEPT: usize = 20;

/// GETs to send: how many, over how many connections, how fast.
#[derive(Debug, Clone)]
pub struct Load {
    to: SocketAddr,
    path: String,
    total: u64,
    connections: usize,
    per_second: Option<u32>,
}

/// What came back.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by the backend that gave them; Envoy's own and the filter's are not here.
    pub backends: BTreeMap<String, u64>,
    /// Requests that got no answer at all.
    pub unanswered: u64,
    /// How long each request took, in no order.
    pub times: Vec<Duration>,
    /// The first few failures (no answer, or a status of 400 and more), in words.
    pub failures: Vec<String>,
}

impl Tally {
    /// Requests that were sent.
    pub fn sent(&self) -> u64 {
        self.unanswered + self.statuses.values().sum::<u64>()
    }

    /// Requests that failed: no answer, or a status of 400 and more.
    pub fn failed(&self) -> u64 {
        let bad: u64 = self.statuses.range(400..).map(|(_, count)| count).sum();
        self.unanswered + bad
    }

    /// Answers of one backend.
    pub fn by(&self, backend: &str) -> u64 {
        self.backends.get(backend).copied().unwrap_or_default()
    }

    /// Fails, with the first failures in words, when any request failed or none was sent.
    pub fn ensure_clean(&self) -> Result<()> {
        ensure!(self.sent() > 0, "not one request was sent");
        ensure!(
            self.failed() == 0,
            "{} of {} failed: {:#?} {:?}",
            self.failed(),
            self.sent(),
            self.failures,
            self.statuses
        );
        Ok(())
    }

    /// The time that `percent` of the requests did not exceed; zero when there was none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = (times.len() * percent).div_ceil(100);
        times
            .get(place.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    fn count(&mut self, took: Duration, result: Result<Response>) {
        self.times.push(took);
        let failure = match result {
            Ok(response) => {
                *self.statuses.entry(response.status.as_u16()).or_default() += 1;
                if let Some(backend) = response.backend() {
                    *self.backends.entry(backend.to_owned()).or_default() += 1;
                }
                let failed = response.status.as_u16() >= 400;
                failed.then(|| format!("{} {}", response.status, response.text()))
            }
            Err(error) => {
                self.unanswered += 1;
                Some(format!("{error:#}"))
            }
        };
        self.failures.extend(failure);
        self.failures.truncate(FAILURES_KEPT);
    }
}

impl Load {
    /// `total` GETs of `/`, over 4 connections, as fast as they go.
    pub fn new(to: SocketAddr, total: u64) -> Self {
        Load {
            to,
            path: "/".to_owned(),
            total,
            connections: 4,
            per_second: None,
        }
    }

    /// Another path.
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Over so many connections, each with one request at a time.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// At most this fast, all connections together.
    pub fn per_second(mut self, rate: u32) -> Self {
        self.per_second = Some(rate);
        self
    }

    /// Sends them all.
    pub async fn run(self) -> Result<Tally> {
        self.start().finish().await
    }

    /// Starts sending; the answers are counted by [`Running::finish`].
    pub fn start(self) -> Running {
        let total = self.total;
        let shared = Arc::new(Shared {
            taken: AtomicU64::new(0),
            total: AtomicU64::new(total),
            tally: Mutex::default(),
            beat: self.per_second.map(|rate| Turn::new(beat(rate))),
        });
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(send(
                Client::new(self.to),
                self.path.clone(),
                Arc::clone(&shared),
            ));
        }
        Running {
            shared,
            connections,
        }
    }
}

/// A load under way; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    connections: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    taken: AtomicU64,
    total: AtomicU64,
    tally: Mutex<Tally>,
    beat: Option<Turn<Interval>>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// How many requests have ended, one way or the other.
    pub fn done(&self) -> u64 {
        self.shared.tally().sent()
    }

    /// How many of them this backend has answered.
    pub fn by(&self, backend: &str) -> u64 {
        self.shared.tally().by(backend)
    }

    /// Waits until so many requests have ended.
    pub async fn reach(&self, count: u64, deadline: Duration) -> Result<()> {
        eventually(
            deadline,
            &format!("{count} requests of the load"),
            async || {
                ensure!(self.done() >= count, "{} have ended", self.done());
                Ok(())
            },
        )
        .await
    }

    /// Waits for the rest and counts.
    pub async fn finish(mut self) -> Result<Tally> {
        while let Some(end) = self.connections.join_next().await {
            end.context("a connection of the load panicked")?;
        }
        Ok(std::mem::take(&mut *self.shared.tally()))
    }

    /// Sends no more and counts; requests under way end first.
    pub async fn stop(self) -> Result<Tally> {
        self.shared.total.store(0, Ordering::Relaxed);
        self.finish().await
    }
}

async fn send(mut client: Client, path: String, shared: Arc<Shared>) {
    loop {
        if let Some(beat) = &shared.beat {
            beat.lock().await.tick().await;
        }
        let number = shared.taken.fetch_add(1, Ordering::Relaxed);
        if number >= shared.total.load(Ordering::Relaxed) {
            return;
        }
        let start = Instant::now();
        let result = client.get(&path).await;
        shared.tally().count(start.elapsed(), result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_sent_nothing_proves_nothing() {
        assert!(Tally::default().ensure_clean().is_err());
    }
}
