//! What must be true whatever happens: kept beside the core from its events, checked at every step.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_filter::balance::route::PickReason;
use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::{BackendIndex, Cluster, EndpointIndex};
use pointsman_filter::config::{Policy, State, WhenAllUnhealthy};
use pointsman_filter::gates::Gates;
use pointsman_filter::gates::event::Event;
use pointsman_filter::gates::evidence::{Counts, Evidence, Met, Status};
use pointsman_filter::gates::transition::GateChange;
use pointsman_filter::stream::{Effects, Step};

use crate::day::{self, Request, Worker};

/// How long a trial lasts where attempts have no timeout.
const TRIAL_NS: u64 = 5_000_000_000;

/// Back-off of one backend, as the events told it.
#[derive(Debug, Clone, Copy)]
struct Window {
    failed_at: WallTime,
    until: WallTime,
}

/// One request tries a backend for all others.
#[derive(Debug, Clone, Copy)]
struct Trial {
    began: WallTime,
    until: WallTime,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    windows: BTreeMap<BackendKey, Window>,
    /// When the cooldowns end, as events and what answers asked for told it.
    cooldowns: BTreeMap<BackendKey, WallTime>,
    /// Trials that have not told, and have time left.
    trials: BTreeMap<BackendKey, Trial>,
    /// How many there were.
    pub trials_seen: u32,
    pub unhealthy: BTreeSet<BackendKey>,
    /// Those among them whose verdict was forgotten: no worker runs a configuration with them.
    pub forgotten: BTreeSet<BackendKey>,
    down: BTreeMap<String, bool>,
    fails_open: bool,
    all_down: bool,
    /// How often each event was seen.
    pub seen: BTreeMap<&'static str, u32>,
    pub requests: u32,
    pub refused: u32,
}

impl Ledger {
    fn backs_off(&self, cluster: &Cluster, endpoint: EndpointIndex, now: WallTime) -> bool {
        let windows = cluster
            .keys_at(endpoint)
            .filter_map(|key| self.windows.get(&key));
        windows.into_iter().any(|window| now < window.until)
    }

    fn cools(&self, cluster: &Cluster, endpoint: EndpointIndex, now: WallTime) -> bool {
        let mut ends = cluster
            .keys_at(endpoint)
            .filter_map(|key| self.cooldowns.get(&key));
        ends.any(|end| now < *end)
    }

    /// In a back-off or in a cooldown.
    fn is_left_alone(&self, cluster: &Cluster, endpoint: EndpointIndex, now: WallTime) -> bool {
        self.backs_off(cluster, endpoint, now) || self.cools(cluster, endpoint, now)
    }

    fn is_unhealthy(&self, cluster: &Cluster, endpoint: EndpointIndex) -> bool {
        cluster
            .keys_at(endpoint)
            .any(|key| self.unhealthy.contains(&key) && !self.forgotten.contains(&key))
    }

    fn is_on_trial(&self, cluster: &Cluster, endpoint: EndpointIndex, now: WallTime) -> bool {
        let mut trials = cluster
            .keys_at(endpoint)
            .filter_map(|key| self.trials.get(&key));
        trials.any(|trial| now < trial.until)
    }

    /// The pick is a trial: the only one of its backend, and it holds back nobody who is the last.
    fn tries(&mut self, cluster: &Cluster, gates: &Gates, first: EndpointIndex, now: WallTime) {
        assert!(!self.is_on_trial(cluster, first, now), "two trials at once");
        self.trials_seen += 1;
        let held = cluster
            .keys_at(first)
            .filter(|key| gates.of(*key).is_some_and(|it| it.on_trial));
        let trial = Trial {
            began: now,
            until: now.plus(TRIAL_NS),
        };
        self.trials.extend(held.map(|key| (key, trial)));
        assert!(self.is_on_trial(cluster, first, now), "nobody is held back");
    }

    /// Invariants 2 and 3 of one decision. `gates` stand in shared data after it.
    pub fn decided(&mut self, worker: &Worker, gates: &Gates, step: &Step, now: WallTime) {
        self.requests += 1;
        self.refused += u32::from(matches!(step, Step::Refuse { .. }));
        let cluster = &*worker.cluster;
        let takes = |endpoint: EndpointIndex| {
            let config = worker.config.backends.iter().zip(&cluster.backends);
            let mut here = config.filter(|(_, compiled)| compiled.endpoint == endpoint);
            // To Tiered weight 0 is a drain.
            let ranks = worker.config.load_balancing.policy == Policy::Tiered;
            here.any(|(it, _)| it.state == State::Normal && (it.weight > 0 || !ranks))
        };
        let ready = |e: EndpointIndex| {
            takes(e) && !self.is_left_alone(cluster, e, now) && !self.is_unhealthy(cluster, e)
        };
        let endpoints = || (0..cluster.endpoints.len()).map(EndpointIndex::of);
        let plan = match step {
            Step::Forward { plan, fails_open } => {
                let fails = plan.reason == PickReason::FailOpen;
                assert_eq!(*fails_open, fails && !self.fails_open, "GT-7");
                plan
            }
            Step::Refuse { .. } => {
                assert!(!endpoints().any(ready), "refused though somebody is ready");
                let fails_open = cluster.when_all_unhealthy == WhenAllUnhealthy::FailOpen;
                let able = |e: EndpointIndex| takes(e) && !self.is_left_alone(cluster, e, now);
                assert!(
                    !fails_open || !endpoints().any(able),
                    "invariant 3: requests still flow"
                );
                return;
            }
        };
        let distinct: BTreeSet<&EndpointIndex> = plan.list.entries().iter().collect();
        assert_eq!(distinct.len(), plan.list.len(), "invariant 2: nobody twice");
        let on_trial = |e: EndpointIndex| self.is_on_trial(cluster, e, now);
        for endpoint in plan.list.entries() {
            assert!(plan.lifts_trials || !on_trial(*endpoint), "two at once");
            assert!(takes(*endpoint), "invariant 2: draining or cordoned");
            assert!(
                !self.backs_off(cluster, *endpoint, now),
                "invariant 2: in back-off"
            );
            assert!(
                !self.cools(cluster, *endpoint, now),
                "invariant 2: in a cooldown"
            );
            let sick = self.is_unhealthy(cluster, *endpoint);
            assert_eq!(
                sick,
                plan.reason == PickReason::FailOpen,
                "unhealthy: fail-open alone"
            );
        }
        assert!(plan.reason != PickReason::FailOpen || !endpoints().any(ready));
        assert!(
            !plan.lifts_trials || !endpoints().any(|e| ready(e) && !on_trial(e)),
            "others are on trial, and somebody is ready"
        );
        if plan.trial {
            let others = |e: &EndpointIndex| Some(*e) != plan.list.first();
            let fails = plan.reason == PickReason::FailOpen;
            let able = |e| takes(e) && (fails && !self.is_left_alone(cluster, e, now) || ready(e));
            assert!(
                endpoints().filter(others).any(able),
                "the last is held back"
            );
            self.tries(cluster, gates, plan.list.first().unwrap(), now);
        }
    }

    /// An endpoint is blamed only for a failure of this very request.
    pub fn judged(&self, request: &Request, effects: &Effects) {
        for met in effects.outcome.evidence() {
            let failed = request.really_failed.contains(&met.endpoint);
            assert_eq!(failed, met.failure().is_some(), "blamed for nothing");
        }
    }

    /// A stream's change was written, with these events.
    pub fn learnt(&mut self, cluster: &Cluster, change: &GateChange, events: &[Event]) {
        for event in events {
            match *event {
                Event::BackoffOpened {
                    backend, wait_ns, ..
                } => {
                    let endpoint = cluster.backend(backend).unwrap().endpoint;
                    assert!(!self.backs_off(cluster, endpoint, change.now), "RT-2");
                    let window = Window {
                        failed_at: change.now,
                        until: change.now.plus(wait_ns),
                    };
                    assert!((1..=63).contains(&(wait_ns / 1_000_000_000)), "RT-1");
                    self.windows
                        .extend(cluster.keys_at(endpoint).map(|key| (key, window)));
                    for key in cluster.keys_at(endpoint) {
                        self.trials.remove(&key);
                    }
                }
                Event::CooldownStarted {
                    backend, window_ns, ..
                } => {
                    let endpoint = cluster.backend(backend).unwrap().endpoint;
                    assert!((1..=20).contains(&(window_ns / 1_000_000_000)), "RT-13");
                    let end = change.now.plus(window_ns);
                    self.cooldowns
                        .extend(cluster.keys_at(endpoint).map(|key| (key, end)));
                }
                Event::BackoffClosed { backend } => {
                    let endpoint = cluster.backend(backend).unwrap().endpoint;
                    let served = |met: &&Evidence| met.what.is_answer();
                    let served = change.evidence.iter().find(served);
                    assert_eq!(served.map(|met| met.endpoint), Some(endpoint));
                    for key in cluster.keys_at(endpoint) {
                        if self
                            .windows
                            .get(&key)
                            .is_some_and(|w| w.failed_at < change.picked_at)
                        {
                            self.windows.remove(&key);
                        }
                    }
                }
                _ => {}
            }
        }
        for met in &change.evidence {
            self.has_counted(cluster, change, *met);
            self.has_cooled(cluster, change, *met);
            if met.counts == Counts::Success {
                for key in cluster.keys_at(met.endpoint) {
                    let trials = &mut self.trials;
                    let since = |trial: &Trial| trial.began <= change.picked_at;
                    if trials.get(&key).is_some_and(since) {
                        trials.remove(&key);
                    }
                }
            }
        }
        self.told(cluster, events);
    }

    /// What an answer asks for it gets, whenever its request was picked, within bounds.
    fn has_cooled(&mut self, cluster: &Cluster, change: &GateChange, met: Evidence) {
        let Met::Status(Status {
            asked_ns: Some(asked_ns),
            ..
        }) = met.what
        else {
            return;
        };
        let asked = change
            .now
            .plus(asked_ns.clamp(1_000_000_000, 20_000_000_000));
        let keys = || cluster.keys_at(met.endpoint);
        let ends = keys().filter_map(|key| self.cooldowns.get(&key));
        let end = ends.copied().fold(asked, WallTime::max);
        self.cooldowns.extend(keys().map(|key| (key, end)));
    }

    /// Every failure has opened a window, fell into one, or is older than the last or than a trial. One
    /// of unknown kind has left the last alone.
    fn has_counted(&self, cluster: &Cluster, change: &GateChange, met: Evidence) {
        let windows = cluster.keys_at(met.endpoint);
        let mut windows = windows.filter_map(|key| self.windows.get(&key));
        let serves = |e: &EndpointIndex| {
            let normal = cluster.endpoints[e.place()].normal;
            let held = self.is_left_alone(cluster, *e, change.now)
                || self.is_on_trial(cluster, *e, change.now);
            normal && *e != met.endpoint && !held
        };
        let mut trials = cluster
            .keys_at(met.endpoint)
            .filter_map(|key| self.trials.get(&key));
        let sick = |e| self.is_unhealthy(cluster, e);
        let endpoints = (0..cluster.endpoints.len()).map(EndpointIndex::of);
        let mut others = endpoints.filter(serves);
        assert!(
            met.what.is_answer()
                || self.backs_off(cluster, met.endpoint, change.now)
                || windows.any(|window| window.failed_at >= change.picked_at)
                || trials.any(|trial| trial.began > change.picked_at)
                || met.what == Met::Unknown && !others.any(|e| sick(met.endpoint) || !sick(e)),
            "a failure without a window"
        );
    }

    /// Regimes begin and end in turns, each told once.
    pub fn told(&mut self, cluster: &Cluster, events: &[Event]) {
        for event in events {
            *self.seen.entry(event.name().name()).or_default() += 1;
            match *event {
                Event::FailOpenEntered => assert!(!std::mem::replace(&mut self.fails_open, true)),
                Event::FailOpenLeft => assert!(std::mem::replace(&mut self.fails_open, false)),
                Event::AllDown { total } => {
                    assert!(
                        total > 0 && !std::mem::replace(&mut self.all_down, true),
                        "GT-10"
                    );
                }
                Event::Recovered { available, .. } => {
                    assert!(
                        available > 0 && std::mem::replace(&mut self.all_down, false),
                        "GT-10"
                    );
                }
                Event::BackendDown { backend } => {
                    assert_ne!(
                        self.turn(cluster, backend, true),
                        Some(true),
                        "RT-5: down twice"
                    );
                }
                Event::BackendUp { backend } => {
                    assert_ne!(
                        self.turn(cluster, backend, false),
                        Some(false),
                        "RT-5: up twice"
                    );
                }
                Event::BackoffOpened { .. }
                | Event::BackoffClosed { .. }
                | Event::CooldownStarted { .. } => {}
            }
            assert!(
                !event.line(cluster).contains('?'),
                "a line that names its backend"
            );
        }
    }

    fn turn(&mut self, cluster: &Cluster, backend: BackendIndex, down: bool) -> Option<bool> {
        let endpoint = cluster.backend(backend).unwrap().endpoint;
        let address = cluster.endpoint(endpoint).unwrap().address.to_string();
        // Of ids that share an address a worker may know one and another worker both: each tells
        // of those it knows.
        let shared = day::SHARED.contains(&&*address);
        self.down.insert(address, down).filter(|_| !shared)
    }

    /// Somebody has tidied up: a verdict that is `held` no more was on a backend that is gone.
    pub fn forgot(&mut self, held: impl Fn(BackendKey) -> bool, cluster: &Cluster) {
        let unhealthy = self.unhealthy.iter().copied();
        self.forgotten = unhealthy.filter(|key| !held(*key)).collect();
        for key in &self.forgotten {
            assert!(cluster.backend_by_key(*key).is_none(), "a verdict was lost");
        }
    }

    /// After an edit an address may have been away, with its gates.
    pub fn edited(&mut self) {
        self.down.clear();
    }

    /// The latches as the books have them, against those of the gates.
    pub fn latches(&self) -> (bool, bool) {
        (self.fails_open, self.all_down)
    }
}
