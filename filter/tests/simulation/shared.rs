//! Shared data between the workers: who writes may find that another was faster.

use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::gates::Gates;
use pointsman_filter::gates::event::Event;

use super::{Day, Request};

/// Most attempts at one write; more would mean that a writer starves.
const WRITES_MAX: u32 = 4;

impl Day {
    /// A worker's write to shared data. Between its reading and its writing another may write.
    pub(super) fn update(
        &mut self,
        worker: usize,
        mut racing: bool,
        change: impl Fn(&mut Gates, &mut SplitMix64) -> Vec<Event>,
    ) -> Vec<Event> {
        for _ in 0..WRITES_MAX {
            let (blob, version) = self.shared.clone();
            let mut gates = Gates::decode(&blob);
            let events = change(&mut gates, &mut self.workers[worker].rng);
            if std::mem::take(&mut racing) && self.chance(20) {
                self.proceed_another();
            }
            if self.shared.1 != version {
                self.conflicts += 1;
                continue;
            }
            let written = gates.encode();
            if written != blob {
                self.shared = (written, version + 1);
            }
            self.note(&format!("{events:?}"));
            return events;
        }
        panic!("a writer starves");
    }

    fn proceed_another(&mut self) {
        let waits = |request: &Request| !request.answered;
        if let Some(other) = self.requests.iter().position(waits) {
            self.proceed(other, false);
        }
    }

    /// Between a worker's reading and its writing another may pick, or learn.
    pub(super) fn race(&mut self, racing: bool) {
        match self.rng.below(10) {
            0..3 if racing => self.request(false),
            3 if racing => self.proceed_another(),
            _ => {}
        }
    }

    /// Writes what was made of a version; what stands there where another worker was faster.
    pub(super) fn replace(&mut self, record: &[u8], version: &mut u32) -> Option<Vec<u8>> {
        if self.shared.1 == *version {
            self.shared = (record.to_vec(), *version + 1);
            return None;
        }
        self.conflicts += 1;
        *version = self.shared.1;
        Some(self.shared.0.clone())
    }
}
