//! The queue of demo mode: in memory, gone with the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{DEPTH_MAX, Job, JobsError, LISTED_MAX, Progress, QueueStatus, State};
use crate::model::clock;
use crate::model::event::Event;
use crate::registry::edit::{Draft, Expect};
use crate::registry::editor::Editor;
use crate::telemetry::events::Events;

/// Jobs that are remembered after their end.
const KEPT_MAX: usize = 1000;

/// The queue; clones are the same one.
#[derive(Clone)]
pub struct MemoryQueue {
    editor: Editor,
    jobs: Arc<Mutex<Jobs>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Jobs {
    /// By the order in which they came.
    known: BTreeMap<u64, (Job, Progress)>,
    numbers: BTreeMap<String, u64>,
    last: u64,
    /// Those that are over, the oldest first.
    over: VecDeque<u64>,
}

impl MemoryQueue {
    /// An empty queue whose jobs change the registry in this way.
    pub fn new(editor: Editor) -> Self {
        MemoryQueue {
            editor,
            jobs: Arc::default(),
            news: Arc::default(),
        }
    }

    /// Takes a job on, unless it is known.
    pub fn add(&self, job: Job) -> Result<(), JobsError> {
        self.jobs().add(job, clock::now())?;
        self.news.notify_one();
        Ok(())
    }

    /// What is known of a job.
    pub fn get(&self, id: &str) -> Option<Progress> {
        let jobs = self.jobs();
        let number = jobs.numbers.get(id)?;
        Some(jobs.known.get(number)?.1.clone())
    }

    /// The newest jobs.
    pub fn list(&self) -> Vec<Progress> {
        let jobs = self.jobs();
        let newest = jobs.known.values().rev().take(LISTED_MAX);
        newest.map(|(_, progress)| progress.clone()).collect()
    }

    /// Does the jobs, for as long as it is polled.
    pub async fn work(&self, status: &watch::Sender<QueueStatus>, events: &Events) {
        loop {
            status.send_replace(QueueStatus::Memory(self.jobs().depth()));
            let next = self.jobs().next();
            if let Some((number, job)) = next {
                let outcome = self.carry_out(number, &job.documents).await;
                self.jobs().finish(number, clock::now(), outcome.clone());
                let job = job.id;
                let event = match outcome {
                    Ok(()) => Event::JobDone { job },
                    Err(reason) => Event::JobFailed { job, reason },
                };
                events.report(event);
                continue;
            }
            self.news.notified().await;
        }
    }

    async fn carry_out(&self, number: u64, documents: &[Draft]) -> Result<(), String> {
        for document in documents {
            let written = self.editor.write(document, &Expect::Anything).await;
            written.map_err(|error| error.to_string())?;
            self.jobs().step(number);
        }
        Ok(())
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    fn depth(&self) -> u64 {
        let open = self.known.len().saturating_sub(self.over.len());
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    fn add(&mut self, job: Job, now: u64) -> Result<(), JobsError> {
        if self.numbers.contains_key(&job.id) {
            return Ok(());
        }
        if self.depth() >= DEPTH_MAX {
            return Err(JobsError::Full);
        }
        let progress = Progress {
            id: job.id.clone(),
            state: State::Waiting,
            done: 0,
            total: u64::try_from(job.documents.len()).unwrap_or(u64::MAX),
            created: now,
            finished: None,
            error: None,
        };
        self.last += 1;
        self.numbers.insert(job.id.clone(), self.last);
        self.known.insert(self.last, (job, progress));
        Ok(())
    }

    /// The job whose turn it is.
    fn next(&self) -> Option<(u64, Job)> {
        let mut jobs = self.known.iter();
        let next = jobs.find(|(_, (_, progress))| matches!(progress.state, State::Waiting));
        next.map(|(number, (job, _))| (*number, job.clone()))
    }

    fn step(&mut self, number: u64) {
        if let Some((_, progress)) = self.known.get_mut(&number) {
            progress.state = State::Running;
            progress.done += 1;
        }
    }

    fn finish(&mut self, number: u64, now: u64, outcome: Result<(), String>) {
        let Some((job, progress)) = self.known.get_mut(&number) else {
            return;
        };
        // Its documents are not needed any more.
        job.documents = Vec::new();
        progress.state = match outcome {
            Ok(()) => State::Done,
            Err(_) => State::Failed,
        };
        progress.error = outcome.err();
        progress.finished = Some(now);
        self.over.push_back(number);
        if self.over.len() > KEPT_MAX
            && let Some((job, _)) = self.over.pop_front().and_then(|it| self.known.remove(&it))
        {
            self.numbers.remove(&job.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str) -> Job {
        Job {
            id: id.to_owned(),
            documents: Vec::new(),
        }
    }

    #[test]
    fn each_job_has_its_turn_once() {
        let mut jobs = Jobs::default();
        for id in ["first", "second", "third", "first"] {
            jobs.add(job(id), 10).unwrap();
        }
        assert_eq!(jobs.depth(), 3);
        let mut turns = Vec::new();
        while let Some((number, job)) = jobs.next() {
            jobs.step(number);
            let outcome = match job.id.as_str() {
                "third" => Err("no".to_owned()),
                _ => Ok(()),
            };
            jobs.finish(number, 11, outcome);
            turns.push(job.id);
        }
        assert_eq!(turns, ["first", "second", "third"]);
        assert_eq!(jobs.depth(), 0);
        let states: Vec<&str> = jobs.known.values().map(|(_, it)| it.state.name()).collect();
        assert_eq!(states, ["Done", "Done", "Failed"]);
    }

    #[test]
    fn neither_the_waiting_nor_the_done_grow_without_bound() {
        let mut jobs = Jobs::default();
        for number in 0..DEPTH_MAX {
            jobs.add(job(&number.to_string()), 0).unwrap();
        }
        assert_eq!(jobs.add(job("one more"), 0), Err(JobsError::Full));
        for number in 1..=DEPTH_MAX {
            jobs.finish(number, 0, Ok(()));
        }
        assert_eq!((jobs.known.len(), jobs.numbers.len()), (KEPT_MAX, KEPT_MAX));
    }
}
