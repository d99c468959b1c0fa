//! The queue of demo mode: in memory, gone with the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::{Act, DEPTH_MAX, Job, JobsError, LISTED_MAX, Progress, QueueStatus, State};
use crate::model::clock;
use crate::model::event::Event;
use crate::registry::edit::Expect;
use crate::registry::editor::Editor;
use crate::telemetry::events::Events;

/// Jobs that are remembered after their end.
const KEPT_MAX: usize = 1000;
/// Longest time between two looks at the clock, which may be set.
const POLL: Duration = Duration::from_secs(1);

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

    /// The clock, ms.
    pub fn now(&self) -> u64 {
        clock::now()
    }

    /// Takes a job on, unless it is known.
    pub fn add(&self, job: Job) -> Result<(), JobsError> {
        self.jobs().add(job, self.now())?;
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
            let next = self.jobs().next(self.now());
            if let Some((number, job)) = next {
                let outcome = self.carry_out(number, &job.act).await;
                self.jobs().finish(number, self.now(), outcome.clone());
                let job = job.id;
                let event = match outcome {
                    Ok(()) => Event::JobDone { job },
                    Err(reason) => Event::JobFailed { job, reason },
                };
                events.report(event);
                continue;
            }
            let wait = self.jobs().wait(self.now()).unwrap_or(POLL).min(POLL);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.news.notified() => {}
            }
        }
    }

    async fn carry_out(&self, number: u64, act: &Act) -> Result<(), String> {
        match act {
            Act::Say {
                cluster,
                backend,
                word,
            } => {
                let said = self
                    .editor
                    .set_override(cluster, backend, word.as_ref())
                    .await;
                said.map_err(|error| error.to_string())?;
                self.jobs().step(number);
            }
            Act::Apply(documents) => {
                for document in documents {
                    let written = self.editor.write(document, &Expect::Anything).await;
                    written.map_err(|error| error.to_string())?;
                    self.jobs().step(number);
                }
            }
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
            summary: job.act.summary(),
            state: State::Waiting,
            done: 0,
            total: u64::try_from(job.act.total()).unwrap_or(u64::MAX),
            created: now,
            at: job.at,
            finished: None,
            error: None,
        };
        self.last += 1;
        self.numbers.insert(job.id.clone(), self.last);
        self.known.insert(self.last, (job, progress));
        Ok(())
    }

    /// The job whose turn it is.
    fn next(&self, now: u64) -> Option<(u64, Job)> {
        let due = self.known.iter().filter(|(_, (job, progress))| {
            matches!(progress.state, State::Waiting) && job.at <= now
        });
        let (number, (job, _)) = due.min_by_key(|(number, (job, _))| (job.at, **number))?;
        Some((*number, job.clone()))
    }

    fn wait(&self, now: u64) -> Option<Duration> {
        let open = self.known.values().map(|(_, progress)| progress);
        let open = open.filter(|progress| progress.finished.is_none());
        let soonest = open.map(|progress| progress.at).min()?;
        Some(Duration::from_millis(soonest.saturating_sub(now)))
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
        job.act = Act::Apply(Vec::new());
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

    fn job(id: &str, at: u64) -> Job {
        let (cluster, backend) = ("a".to_owned(), "b".to_owned());
        let act = Act::Say {
            cluster,
            backend,
            word: None,
        };
        Job {
            id: id.to_owned(),
            at,
            act,
        }
    }

    #[test]
    fn each_job_has_its_turn_once() {
        let mut jobs = Jobs::default();
        for (id, at) in [("later", 50), ("first", 0), ("second", 0), ("first", 9)] {
            jobs.add(job(id, at), 10).unwrap();
        }
        assert_eq!(jobs.depth(), 3);
        let mut turns = Vec::new();
        while let Some((number, job)) = jobs.next(10) {
            jobs.step(number);
            jobs.finish(number, 11, Ok(()));
            turns.push(job.id);
        }
        assert_eq!(turns, ["first", "second"]);
        assert_eq!(jobs.wait(10), Some(Duration::from_millis(40)));
        let (number, _) = jobs.next(50).unwrap();
        jobs.finish(number, 51, Err("no".to_owned()));
        assert_eq!((jobs.depth(), jobs.wait(60)), (0, None));
        let states: Vec<&str> = jobs.known.values().map(|(_, it)| it.state.name()).collect();
        assert_eq!(states, ["Failed", "Done", "Done"]);
    }

    #[test]
    fn neither_the_waiting_nor_the_done_grow_without_bound() {
        let mut jobs = Jobs::default();
        for number in 0..DEPTH_MAX {
            jobs.add(job(&number.to_string(), 0), 0).unwrap();
        }
        assert_eq!(jobs.add(job("one more", 0), 0), Err(JobsError::Full));
        for number in 1..=DEPTH_MAX {
            jobs.finish(number, 0, Ok(()));
        }
        assert_eq!((jobs.known.len(), jobs.numbers.len()), (KEPT_MAX, KEPT_MAX));
    }
}
