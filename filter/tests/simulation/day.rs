//! One day of an Envoy, as its seed decides it: workers share gates, backends come and go, streams live on.

mod edits;
mod envoy;
mod shared;

use std::collections::BTreeMap;
use std::rc::Rc;

use pointsman_filter::base::hash::{self, BackendKey};
use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::load::{Load, LoadReport, Loads};
use pointsman_filter::cluster::{Cluster, EndpointIndex};
use pointsman_filter::config::{ClusterConfig, Metric, Policy};
use pointsman_filter::gates::{Gates, availability};
use pointsman_filter::stream::attempts::{Answer, Ending};
use pointsman_filter::stream::{Arrival, Effects, Step, Stream};
use serde_json::json;

use crate::ledger::Ledger;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const HOSTS: u32 = 9;
const IDS: u32 = HOSTS + 2;
/// The addresses that two ids have.
pub const SHARED: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];

/// One worker's VM.
pub struct Worker {
    pub config: Rc<ClusterConfig>,
    pub cluster: Rc<Cluster>,
    loads: Loads,
    rng: SplitMix64,
}

/// How a backend behaves towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Refuses,
    Resets,
    /// Answers that it has too much to do.
    Limits,
}

/// A request under way: the filter's stream, and what Envoy will say of it.
pub struct Request {
    worker: usize,
    stream: Stream,
    /// When it ends; where it has not been answered yet, when it is.
    due: WallTime,
    answered: bool,
    /// Somebody is charged with it.
    charged: bool,
    answer: Answer,
    pub really_failed: Vec<EndpointIndex>,
}

pub struct Day {
    rng: SplitMix64,
    now: WallTime,
    /// Shared data: the blob and its version.
    shared: (Vec<u8>, u32),
    config: Rc<ClusterConfig>,
    workers: Vec<Worker>,
    manners: BTreeMap<String, Manner>,
    requests: Vec<Request>,
    pub ledger: Ledger,
    /// Everything that was decided, in one number.
    pub digest: u64,
    conflicts: u32,
}

impl Day {
    pub fn new(seed: u64, policy: Option<Policy>) -> Self {
        let mut rng = SplitMix64::new(seed);
        let policies = [
            Policy::RoundRobin,
            Policy::Random,
            Policy::LeastLoaded,
            Policy::PowerOfTwo,
            Policy::Tiered,
            Policy::Rendezvous,
            Policy::Maglev,
        ];
        let drawn = policies[rng.below(7) as usize];
        let metric = [Metric::Requests, Metric::Latency][rng.below(2) as usize];
        let mut document = json!({"name": "orders", "backends": []});
        document["retry"] = json!({"attempts": 1 + rng.below(4)});
        document["passive"] = json!({"cooldown": {"base": "1s", "max": "20s"}});
        if rng.below(4) == 0 {
            document["backoff"] = json!({"halfOpen": false});
        }
        if rng.below(3) == 0 {
            document["whenAllUnhealthy"] = "Refuse".into();
        }
        if rng.below(2) == 0 {
            document["sticky"] = json!({"cookie": "P"});
        }
        let mut config = ClusterConfig::parse(&document).unwrap();
        config.load_balancing.policy = policy.unwrap_or(drawn);
        config.load_balancing.table_size = 251;
        if policy.is_none() {
            config.load_balancing.metric = metric;
        }
        let mut day = Day {
            now: WallTime::from_ns(1_000_000 * SECOND),
            shared: (Vec::new(), 1),
            config: Rc::new(config),
            workers: Vec::new(),
            manners: BTreeMap::new(),
            requests: Vec::new(),
            ledger: Ledger::default(),
            digest: seed,
            conflicts: 0,
            rng,
        };
        (0..4).for_each(|_| day.add_backend());
        for _ in 0..1 + day.rng.below(4) {
            let seed = day.rng.draw();
            let mut loads = Loads::default();
            let cluster = Rc::new(Cluster::compile(
                &day.config,
                &mut loads,
                day.now,
                seed as u32,
            ));
            let (config, rng) = (day.config.clone(), SplitMix64::new(seed));
            day.workers.push(Worker {
                config,
                cluster,
                loads,
                rng,
            });
        }
        day
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    fn note(&mut self, what: &str) {
        self.digest = hash::below(self.digest, what);
    }

    /// Something happens; what must be true is checked.
    pub fn step(&mut self) {
        match self.rng.below(100) {
            0..50 => self.request(true),
            50..75 => self.go_on(),
            75..79 => self.change_manners(),
            79..83 => self.change_verdicts(),
            83..86 => self.edit(),
            86..92 => self.adopt(),
            92..96 => self.tidy(),
            _ => self.tell_loads(),
        }
        self.check();
    }

    /// Time passes, streams are answered and end.
    fn go_on(&mut self) {
        let span = match self.rng.below(100) {
            0..40 => MS,
            40..70 => 100 * MS,
            70..97 => SECOND,
            97..99 => 70 * SECOND,
            _ => 1000 * SECOND,
        };
        self.now = self.now.plus(self.rng.between(1, span));
        while let Some(place) = self
            .requests
            .iter()
            .position(|request| request.due <= self.now)
        {
            self.proceed(place, true);
        }
    }

    fn proceed(&mut self, place: usize, racing: bool) {
        let mut request = self.requests.swap_remove(place);
        if request.answered {
            assert!(request.stream.end(None).is_none());
            return;
        }
        let answer = request.answer.clone();
        let gone = answer.ending == Ending::Abandoned;
        let effects = if gone {
            request.stream.end(Some(&answer)).unwrap()
        } else {
            request.stream.respond(&answer).unwrap()
        };
        self.ledger.judged(&request, &effects);
        self.apply(request.worker, racing, &effects);
        if gone {
            return;
        }
        request.charged = effects.outcome.served().is_some();
        request.answered = true;
        // Most end at once, some live for hours.
        let lives_ns = if self.chance(90) {
            50 * MS
        } else {
            7200 * SECOND
        };
        request.due = self.now.plus(self.rng.between(0, lives_ns));
        self.requests.push(request);
    }

    /// What the adapter does with effects, as far as others can see it.
    fn apply(&mut self, worker: usize, racing: bool, effects: &Effects) {
        let now = self.now;
        if let Some(change) = effects.gate_change(now) {
            let cluster = effects.cluster.clone();
            let events = self.update(worker, racing, |gates, rng| {
                change.apply(&cluster, gates, rng)
            });
            self.ledger.learnt(&cluster, &change, &events);
        }
        effects.measure(now);
    }

    fn request(&mut self, racing: bool) {
        let place = self.rng.below(self.workers.len() as u32) as usize;
        let cookie = format!("b{}", self.rng.below(IDS));
        let whole = self.chance(80);
        let worker = &self.workers[place];
        let mut rng = worker.rng.clone();
        let has_cookie = worker.cluster.sticky.is_some() && !cookie.ends_with('3');
        let now = match worker.cluster.asks_the_time(&self.shared.0) {
            true => self.now,
            false => WallTime::FIRST,
        };
        let arrival = Arrival {
            cookies: has_cookie
                .then(|| cookie.into_bytes())
                .into_iter()
                .collect(),
            key: Some(hash::draw(self.now.ns(), 0)),
            whole,
            ..super::arrival(&worker.cluster, &self.shared, now)
        };
        let mut stream = Stream::default();
        let mut version = self.shared.1;
        let step = stream.arrive(&arrival, &mut rng, &mut |_, record| {
            self.race(racing);
            self.replace(record, &mut version)
        });
        self.workers[place].rng = rng;
        let gates = Gates::decode(&self.shared.0);
        self.ledger
            .decided(&self.workers[place], &gates, &step, self.now);
        let Step::Forward { plan, fails_open } = step else {
            self.note(&format!("{step:?}"));
            return;
        };
        let (list, reason) = (plan.list.entries(), plan.reason.name());
        self.note(&format!(
            "{list:?} {reason} {} {} {}",
            plan.sticky_lost, plan.alone, plan.trial
        ));
        if fails_open {
            let events = self.update(place, false, |gates, _| {
                let mut events = Vec::new();
                availability::fails_open(gates, &mut events);
                events
            });
            self.ledger.told(&arrival.cluster, &events);
        }
        let request = self.send(place, stream, &arrival.cluster, &plan);
        self.requests.push(request);
    }

    /// Every worker tells the others how loaded it finds the endpoints.
    fn tell_loads(&mut self) {
        let now = self.now;
        let told: Vec<Vec<LoadReport>> = self
            .workers
            .iter()
            .map(|worker| {
                worker
                    .loads
                    .iter()
                    .filter_map(|load| load.report(now))
                    .collect()
            })
            .collect();
        for (place, worker) in self.workers.iter().enumerate() {
            let others = told.iter().enumerate().filter(|(other, _)| *other != place);
            let reports = others.flat_map(|(_, reports)| reports.iter().copied());
            worker.loads.gather(reports);
            worker.loads.turn_over(now);
        }
    }

    /// Nothing leaks and nothing grows.
    fn check(&self) {
        let gates = Gates::decode(&self.shared.0);
        assert_eq!((gates.fail_open, gates.all_down), self.ledger.latches());
        assert_eq!(gates.encode(), self.shared.0);
        assert!(
            gates.entries().len() <= IDS as usize,
            "invariant 7: one entry a backend"
        );
        for (place, worker) in self.workers.iter().enumerate() {
            let mine = self
                .requests
                .iter()
                .filter(|request| request.worker == place);
            let charged: u32 = worker.loads.iter().map(Load::in_flight).sum();
            let streams = mine.filter(|request| request.charged).count();
            assert_eq!(charged as usize, streams, "in flight leaks");
            let known = worker.cluster.endpoints.len() + HOSTS as usize;
            assert!(
                worker.loads.iter().count() <= known,
                "invariant 7: loads grow"
            );
        }
    }

    /// The day ends: everybody is well, every worker up to date, every stream over. Nothing of it
    /// may be left.
    pub fn end(&mut self) {
        self.manners.clear();
        self.ledger.unhealthy.clear();
        self.change_verdicts_to_none();
        self.now = self.now.plus(10_000 * SECOND);
        while !self.requests.is_empty() {
            self.now = self.now.plus(SECOND);
            self.go_on();
        }
        for place in 0..self.workers.len() {
            let worker = &mut self.workers[place];
            worker.config = self.config.clone();
            let cluster = Cluster::compile(&worker.config, &mut worker.loads, self.now, 0);
            worker.cluster = Rc::new(cluster);
            worker.loads.prune();
            let used = worker.loads.iter().count();
            assert_eq!(
                used,
                worker.cluster.endpoints.len(),
                "only loads in use are left"
            );
        }
        self.now = self.now.plus(1000 * SECOND);
        self.tidy();
        let cluster = self.workers[0].cluster.clone();
        let able = cluster.backends.iter().any(|backend| backend.is_normal());
        let gates = Gates::decode(&self.shared.0);
        assert!(
            !gates.fail_open || !able,
            "fail-open ends when somebody is ready"
        );
        let (available, total) = availability::count_available(&cluster, &gates);
        assert_eq!(
            gates.all_down,
            total > 0 && available == 0 || total == 0 && gates.all_down
        );
        let known = |key: BackendKey| cluster.backend_by_key(key).is_some();
        assert!(
            gates.entries().iter().all(|gate| known(gate.key)),
            "invariant 7: strangers are forgotten"
        );
    }

    fn change_verdicts_to_none(&mut self) {
        let now = self.now;
        let cluster = self.workers[0].cluster.clone();
        let events = self.update(0, false, |gates, _| {
            let mut events = Vec::new();
            gates.judge(&[], |_| true, now);
            availability::all_down(&cluster, gates, &mut events);
            events
        });
        self.ledger.told(&cluster, &events);
    }

    /// Writes that found another worker's before them.
    pub fn conflicts(&self) -> u32 {
        self.conflicts
    }
}
