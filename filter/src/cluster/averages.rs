//! What Tiered knows of an endpoint: how long its answers take, and how often it fails.

use std::cell::Cell;
use std::fmt;

use crate::base::time::{WallTime, nanos};
use crate::config::{Averaging, Code};

/// Costs below are alike (LB-15).
pub const COST_MIN_NS: u64 = SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;
/// What was not fed for so long counts half, and after so long again a quarter.
const HALVES_NS: u64 = 30 * SECOND_NS;
/// Averages move by so many thousandths of the way.
const ALL: u32 = 1000;
const PENALTY_IN: u32 = 800;
const PENALTY_OUT: u32 = 500;
/// What counts less is told to nobody.
const FORGOTTEN_NS: u64 = 10_000;

/// Two averages, as they were when they were fed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Average {
    /// Of the time of its answers, nanoseconds (RT-16).
    pub latency_ns: u64,
    /// Of what its failures count as, nanoseconds (RT-15).
    pub penalty_ns: u64,
    /// When they were fed last.
    pub fed_at: WallTime,
}

impl Average {
    /// What is left of them: who is left alone for long is worth a try.
    fn at(self, now: WallTime) -> Self {
        let halvings = now.age_of(self.fed_at).checked_div(HALVES_NS);
        let halvings = halvings.and_then(|it| u32::try_from(it).ok());
        let left = |ns: u64| halvings.and_then(|it| ns.checked_shr(it)).unwrap_or(0);
        Average {
            latency_ns: left(self.latency_ns),
            penalty_ns: left(self.penalty_ns),
            fed_at: now,
        }
    }

    /// What a request costs there (LB-15).
    pub fn cost_ns(self) -> u64 {
        self.latency_ns
            .saturating_add(self.penalty_ns)
            .max(COST_MIN_NS)
    }
}

/// What one worker knows of an endpoint.
#[derive(Debug, Clone, Copy)]
struct Averages {
    smoothing: u32,
    /// What it began with.
    start: Average,
    own: Option<Average>,
    /// The freshest of the other workers'.
    elsewhere: Option<Average>,
    /// That of the workers that were read so far, where not all were.
    gathered: Option<Average>,
}

impl Averages {
    fn now(&self, now: WallTime) -> Average {
        let known = self.own.or(self.elsewhere);
        known.unwrap_or(self.start).at(now)
    }
}

/// The averages of an endpoint, where the policy of its cluster has some. To all others they are a pointer.
#[derive(Default)]
pub struct Ranking(Cell<Option<Box<Averages>>>);

impl Ranking {
    /// Begins to average, or ends it; goes on where it has begun.
    pub fn configure(&self, averaging: Option<Averaging>, now: WallTime) {
        let was = self.0.take();
        self.0.set(averaging.map(|averaging| {
            let start = Average {
                latency_ns: nanos(averaging.initial_latency),
                penalty_ns: 0,
                fed_at: now,
            };
            let mut averages = was.unwrap_or_else(|| {
                Box::new(Averages {
                    smoothing: 0,
                    start,
                    own: None,
                    elsewhere: None,
                    gathered: None,
                })
            });
            averages.smoothing = averaging.smoothing;
            averages.start.latency_ns = start.latency_ns;
            averages
        }));
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Averages) -> T) -> Option<T> {
        let mut averages = self.0.take()?;
        let answer = ask(&mut averages);
        self.0.set(Some(averages));
        Some(answer)
    }

    /// What it counts as now: this worker's own averages, else the freshest of the others', else what it began with.
    pub fn at(&self, now: WallTime) -> Average {
        self.with(|it| it.now(now)).unwrap_or_default()
    }

    /// A request went well, in this time where it was measured.
    pub fn succeed(&self, lasted_ns: Option<u64>, now: WallTime) {
        self.feed(now, |average, smoothing| {
            let latency_ns = average.latency_ns;
            let lasted_ns = lasted_ns.unwrap_or(latency_ns);
            average.latency_ns = mix(latency_ns, lasted_ns, smoothing);
            average.penalty_ns = mix(average.penalty_ns, 0, PENALTY_OUT);
        });
    }

    /// A request failed, which counts as this.
    pub fn fail(&self, penalty_ns: u64, now: WallTime) {
        self.feed(now, |average, _| {
            average.penalty_ns = mix(average.penalty_ns, penalty_ns, PENALTY_IN);
        });
    }

    /// A client has waited for so long, and left.
    pub fn wait(&self, lasted_ns: u64, now: WallTime) {
        if lasted_ns > self.at(now).latency_ns {
            self.feed(now, |average, smoothing| {
                average.latency_ns = mix(average.latency_ns, lasted_ns, smoothing);
            });
        }
    }

    fn feed(&self, now: WallTime, change: impl FnOnce(&mut Average, u32)) {
        self.with(|averages| {
            let mut average = averages.now(now);
            change(&mut average, averages.smoothing);
            averages.own = Some(average);
        });
    }

    /// What this worker tells the others: its own averages while they count for anything.
    pub fn report(&self, now: WallTime) -> Option<Average> {
        let own = self.with(|averages| averages.own).flatten()?;
        let left = own.at(now);
        let counts = left.latency_ns.max(left.penalty_ns) > FORGOTTEN_NS;
        counts.then_some(own)
    }

    /// Takes in what another worker tells; the freshest counts, once all have been read.
    pub fn hear(&self, told: Average) {
        self.with(|averages| {
            let known = averages.gathered.filter(|it| it.fed_at >= told.fed_at);
            averages.gathered = known.or(Some(told));
        });
    }

    /// All the others have been read: what they told replaces what they told before.
    pub fn turn_over(&self) {
        self.with(|averages| averages.elsewhere = averages.gathered.take());
    }
}

impl fmt::Debug for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|averages| *averages).fmt(f)
    }
}

/// An average that moves by so many thousandths of the way.
fn mix(old: u64, new: u64, parts: u32) -> u64 {
    let part_of = |ns: u64, parts: u32| ns.saturating_mul(u64::from(parts));
    let sum = part_of(new, parts).saturating_add(part_of(old, ALL.saturating_sub(parts)));
    sum.checked_div(u64::from(ALL)).unwrap_or(new)
}

/// What an answer with this code counts as, nanoseconds; 0: its backend did nothing wrong (RT-15). What a
/// request alone can provoke is held against nobody, or clients would steer picks.
pub fn penalty_ns(code: Code) -> u64 {
    let seconds = match code.as_grpc() {
        // Too much to do: RESOURCE_EXHAUSTED.
        Some(8) => 10,
        // The server's own: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS. DEADLINE_EXCEEDED may be that of a
        // deadline that the client has set, UNIMPLEMENTED that of a method that it has made up.
        Some(2 | 13..=15) => 15,
        Some(_) => 0,
        None if code == Code::http(429) => 10,
        None if code.is_in(500..=599) => 15,
        None => 0,
    };
    SECOND_NS.saturating_mul(seconds)
}

#[cfg(test)]
mod tests;
