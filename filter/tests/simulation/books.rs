//! What is known of the endpoints of a storm from events and answers alone, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_filter::balance::route::{PickReason, Plan};
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::EndpointIndex;
use pointsman_filter::gates::event::Event;
use pointsman_filter::gates::evidence::{Counts, Met};
use pointsman_filter::stream::Effects;

use super::{BACKUPS, PRIMARIES, SECOND, Storm, endpoints};

/// Of the primaries, and of the backups: half, and of three one.
const EJECTED_MAX: [usize; 2] = [4, 1];
const TRIAL_NS: u64 = 5 * SECOND;
/// What is further ahead was noted before the clock stepped back.
const APART_NS: u64 = 5 * SECOND;

/// Until when an endpoint is held back, and since when.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: WallTime,
    until: WallTime,
    passive: bool,
    /// It goes when it is over.
    forgotten: bool,
}

impl Window {
    fn holds(&self, now: WallTime) -> bool {
        now < self.until && self.since.ns() <= now.ns() + APART_NS
    }
}

/// What is known of the endpoints from events and answers alone.
#[derive(Default)]
pub struct Books {
    windows: BTreeMap<EndpointIndex, Window>,
    cooldowns: BTreeMap<EndpointIndex, Window>,
    trials: BTreeMap<EndpointIndex, Window>,
    pub unhealthy: BTreeSet<EndpointIndex>,
}

impl Books {
    fn holds(windows: &BTreeMap<EndpointIndex, Window>, e: EndpointIndex, now: WallTime) -> bool {
        windows.get(&e).is_some_and(|window| window.holds(now))
    }

    pub fn is_left_alone(&self, e: EndpointIndex, now: WallTime) -> bool {
        Self::holds(&self.windows, e, now) || Self::holds(&self.cooldowns, e, now)
    }

    fn is_on_trial(&self, e: EndpointIndex, now: WallTime) -> bool {
        Self::holds(&self.trials, e, now)
    }

    /// Held back by what proves little, or on trial after that.
    fn is_ejected(&self, e: EndpointIndex, now: WallTime) -> bool {
        let passive = self.windows.get(&e).is_some_and(|it| it.passive);
        passive && (Self::holds(&self.windows, e, now) || self.is_on_trial(e, now))
    }
}

impl Books {
    /// Somebody has tidied up: what began before the clock stepped back is over for good.
    pub fn tidied(&mut self, now: WallTime) {
        for windows in [&mut self.windows, &mut self.cooldowns, &mut self.trials] {
            windows.retain(|_, window| window.since.ns() <= now.ns() + APART_NS);
        }
        self.cooldowns
            .retain(|_, it| it.holds(now) || !it.forgotten);
    }

    /// New verdicts: who has become healthy has no cooldowns behind it (RT-14).
    pub fn judged(&mut self, unhealthy: BTreeSet<EndpointIndex>) {
        for healthy in self.unhealthy.difference(&unhealthy) {
            if let Some(cooldown) = self.cooldowns.get_mut(healthy) {
                cooldown.forgotten = true;
            }
        }
        self.unhealthy = unhealthy;
    }
}

impl Storm {
    /// Invariant 2, and what trials promise.
    pub(super) fn sent(&mut self, plan: &Plan, now: WallTime) {
        let books = &self.books;
        let entries = plan.list.entries();
        let distinct: BTreeSet<&EndpointIndex> = entries.iter().collect();
        assert_eq!(distinct.len(), entries.len(), "invariant 2: nobody twice");
        let fails = plan.reason == PickReason::FailOpen;
        let ready = |e: &EndpointIndex| {
            !books.is_left_alone(*e, now) && (fails || !books.unhealthy.contains(e))
        };
        for entry in entries {
            assert!(
                !books.is_left_alone(*entry, now),
                "invariant 2: inside {:?} or {:?} at {now:?}",
                books.windows.get(entry),
                books.cooldowns.get(entry)
            );
            assert!(
                plan.lifts_trials || !books.is_on_trial(*entry, now),
                "beside a trial"
            );
            assert_eq!(
                fails,
                books.unhealthy.contains(entry),
                "unhealthy: fail-open alone"
            );
        }
        let idle = |e: &EndpointIndex| ready(e) && !books.is_on_trial(*e, now);
        assert!(
            !plan.lifts_trials || !endpoints().any(|e| idle(&e)),
            "lifted beside somebody"
        );
        self.figures.lifted += u32::from(plan.lifts_trials);
        if plan.trial {
            let first = entries[0];
            assert!(
                endpoints().any(|e| e != first && idle(&e)),
                "the last is held back"
            );
            let trial = Window {
                since: now,
                until: now.plus(TRIAL_NS),
                passive: false,
                forgotten: false,
            };
            self.books.trials.insert(first, trial);
            // It is over for good, also where the clock steps back into it.
            if let Some(window) = self.books.windows.get_mut(&first) {
                window.until = window.until.min(now);
            }
            self.figures.trials += 1;
            self.check_bound();
        }
    }

    pub(super) fn learn(&mut self, effects: &Effects, picked_at: WallTime) {
        let (cluster, now) = (self.cluster.clone(), self.now);
        let Some(change) = effects.gate_change(now) else {
            return;
        };
        let events = self.update(0, |gates, rng| change.apply(&cluster, gates, rng));
        for event in events {
            let of = |backend| cluster.backend(backend).unwrap().endpoint;
            match event {
                Event::BackoffOpened {
                    backend,
                    wait_ns,
                    reason,
                    ..
                } => {
                    let (e, passive) = (of(backend), reason == "status");
                    let window = Window {
                        since: now,
                        until: now.plus(wait_ns),
                        passive,
                        forgotten: false,
                    };
                    assert!(!Books::holds(&self.books.windows, e, now), "RT-2");
                    self.books.windows.insert(e, window);
                    self.books.trials.remove(&e);
                    self.figures.opened += 1;
                    if passive {
                        self.figures.ejected += 1;
                        let left = |o: &EndpointIndex| !self.books.is_left_alone(*o, now);
                        // One that cools down was held back before.
                        let cools = Books::holds(&self.books.cooldowns, e, now);
                        assert!(cools || endpoints().any(|o| left(&o)), "never the last");
                        self.check_bound();
                    }
                }
                Event::BackoffClosed { backend } => drop(self.books.windows.remove(&of(backend))),
                Event::CooldownStarted {
                    backend, window_ns, ..
                } => {
                    let window = Window {
                        since: now,
                        until: now.plus(window_ns),
                        passive: false,
                        forgotten: false,
                    };
                    self.books.cooldowns.insert(of(backend), window);
                }
                _ => {}
            }
        }
        for met in change.evidence.iter().filter(|met| met.what == Met::Served) {
            let cooldown = self.books.cooldowns.get(&met.endpoint);
            if cooldown.is_some_and(|cooldown| cooldown.until <= picked_at) {
                self.books.cooldowns.remove(&met.endpoint);
            }
        }
        for met in change.evidence.iter().filter(|met| met.what.is_answer()) {
            let trial = self.books.trials.get(&met.endpoint);
            let is_good = met.counts == Counts::Success;
            if is_good && trial.is_some_and(|trial| trial.since <= picked_at) {
                self.books.trials.remove(&met.endpoint);
            }
        }
    }

    /// No more of a tier is held back by what proves little than may be.
    fn check_bound(&self) {
        for (tier, most) in [0..PRIMARIES, PRIMARIES..PRIMARIES + BACKUPS]
            .into_iter()
            .zip(EJECTED_MAX)
        {
            let held = tier
                .map(EndpointIndex::of)
                .filter(|e| self.books.is_ejected(*e, self.now));
            assert!(held.count() <= most, "RT-11: too many are held back");
        }
    }
}
