//! Sixteen workers on backends with rate limits, of which half die at once: nobody is asked for more than
//! a burst that is owed, every loop of compare-and-swap ends, and afterwards all is as before. And on backends
//! with plenty of tokens, of which workers take some in advance: none is given away twice, none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::Cluster;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::config::ClusterConfig;
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::stream::attempts::{Answer, Ending};
use pointsman_filter::stream::{Arrival, Step, Stream, TOKEN_TRIES_MAX};
use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MS: u64 = 1_000_000;
const WORKERS: usize = 16;
const BACKENDS: usize = 6;
const PER_SECOND: u64 = 100;
const BURST: u64 = 20;
/// So many that workers take some in advance.
const PLENTY: u64 = 1200;
/// Requests per millisecond: far more than all backends may have.
const OFFERED: u32 = 2;
/// Milliseconds between a worker's ticks.
const TICK: u64 = 100;

struct Worker {
    cluster: Rc<Cluster>,
    rng: SplitMix64,
}

impl Worker {
    fn new(config: &ClusterConfig, now: WallTime, seed: u64) -> Self {
        Worker {
            cluster: Rc::new(Cluster::compile(config, &mut Loads::default(), now, 0)),
            rng: SplitMix64::new(seed),
        }
    }

    /// Tokens that it has taken in advance.
    fn ahead(&self) -> u32 {
        self.cluster.tokens_ahead().map(|(_, count)| count).sum()
    }
}

/// A request that waits for its answer.
struct Waiting {
    due: WallTime,
    stream: Stream,
    answer: Answer,
}

struct Fleet {
    config: ClusterConfig,
    rng: SplitMix64,
    now: WallTime,
    /// The record of the buckets, and its version.
    shared: (Vec<u8>, u32),
    workers: Vec<Worker>,
    dead: BTreeSet<String>,
    waiting: Vec<Waiting>,
    /// Attempts by address since they were looked at last.
    asked: BTreeMap<String, u64>,
    /// Picks that were paid without a look at shared data.
    prepaid: u64,
    served: u64,
    lost: u64,
    refused: u64,
    unpaid: u64,
    conflicts: u64,
    tries_max: u32,
}

impl Fleet {
    fn new(seed: u64, burst: u64) -> Self {
        let backends: Vec<_> = (0..BACKENDS)
            .map(|i| json!({"address": address(i)}))
            .collect();
        let config = ClusterConfig::parse(&json!({
            "name": "orders", "backends": backends,
            "rateLimit": {"perSecond": PER_SECOND, "burst": burst},
        }))
        .unwrap();
        let now = WallTime::from_ns(1_000_000_000 * MS);
        let workers = 0..WORKERS as u64;
        Fleet {
            workers: workers
                .map(|seed| Worker::new(&config, now, seed))
                .collect(),
            config,
            rng: SplitMix64::new(seed),
            now,
            shared: (Vec::new(), 1),
            dead: BTreeSet::new(),
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            prepaid: 0,
            served: 0,
            lost: 0,
            refused: 0,
            unpaid: 0,
            conflicts: 0,
            tries_max: 0,
        }
    }

    /// Writes what was made of a version; what stands there where another worker was faster, or where
    /// nothing was read yet.
    fn replace(&mut self, record: &[u8], version: &mut Option<u32>) -> Option<Vec<u8>> {
        if *version == Some(self.shared.1) {
            self.shared = (record.to_vec(), self.shared.1 + 1);
            return None;
        }
        self.conflicts += u64::from(version.is_some());
        *version = Some(self.shared.1);
        Some(self.shared.0.clone())
    }

    /// Between a worker's reading and its writing others may have whole requests.
    fn request(&mut self, place: usize, depth: u32) {
        let worker = &self.workers[place];
        let (cluster, mut rng) = (worker.cluster.clone(), worker.rng.clone());
        let is_read = cluster.buckets_seen.borrow().is_none();
        let mut version = is_read.then_some(self.shared.1);
        let arrival = Arrival {
            buckets: self.shared.0.clone(),
            buckets_version: version,
            workers: WORKERS as u32,
            ..super::arrival(&cluster, &(Vec::new(), 0), self.now)
        };
        let (mut stream, mut tries, mut looks) = (Stream::default(), 0, 0);
        let step = stream.arrive(&arrival, &mut rng, &mut |_, record| {
            looks += 1;
            tries += u32::from(version.is_some());
            while depth < 3 && self.rng.below(100) < 45 {
                let other = (place + 1 + self.rng.below(15) as usize) % WORKERS;
                self.request(other, depth + 1);
            }
            self.replace(record, &mut version)
        });
        self.workers[place].rng = rng;
        self.tries_max = self.tries_max.max(tries);
        let Step::Forward { plan, .. } = step else {
            self.refused += 1;
            return;
        };
        self.prepaid += u64::from(!is_read && looks == 0);
        self.unpaid += u64::from(plan.unpaid);
        let (mut attempts, mut ending, mut asked) = (0, Ending::ConnectFailed, None);
        for entry in plan.list.entries() {
            let here = cluster.endpoint(*entry).unwrap().address.to_string();
            attempts += 1;
            *self.asked.entry(here.clone()).or_default() += 1;
            let answers = !self.dead.contains(&here);
            asked = Some(here.into_bytes());
            if answers {
                ending = Ending::Answered;
                break;
            }
        }
        self.served += u64::from(ending == Ending::Answered);
        self.lost += u64::from(ending != Ending::Answered);
        let answer = Answer {
            address: asked,
            attempts,
            ending,
            connection_time_ns: None,
            status: None,
        };
        let due = self.now.plus(self.rng.between(MS, 20 * MS));
        self.waiting.push(Waiting {
            due,
            stream,
            answer,
        });
    }

    /// A millisecond of requests and answers, and the ticks of those whose turn it is.
    fn step(&mut self, offered: u32) {
        self.now = self.now.plus(MS);
        let millis = self.now.ns() / MS;
        for place in (0..WORKERS).filter(|place| millis % TICK == *place as u64) {
            self.tick(place);
        }
        for _ in 0..offered {
            let place = self.rng.below(WORKERS as u32) as usize;
            self.request(place, 0);
        }
        let (due, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|it| it.due <= self.now);
        self.waiting = waiting;
        for Waiting {
            mut stream, answer, ..
        } in due
        {
            let effects = stream.respond(&answer).unwrap();
            if effects.owes() {
                let record = effects.pay(&self.shared.0, self.now);
                self.shared = (record, self.shared.1 + 1);
            }
            stream.end(None);
        }
        self.check();
    }

    fn tick(&mut self, place: usize) {
        let cluster = &self.workers[place].cluster;
        let record = &self.shared.0;
        let given = Buckets::read(record, self.now).give_back(record, cluster.tokens_ahead());
        self.shared = (given, self.shared.1 + 1);
        cluster.forget_tokens();
    }

    /// No bucket owes more than a burst.
    fn check(&self) {
        let cluster = &self.workers[0].cluster;
        let buckets = Buckets::read(&self.shared.0, self.now);
        for endpoint in &cluster.endpoints {
            let quota = endpoint.quota.as_deref().unwrap();
            let most = quota.burst_ns + quota.token_ns;
            assert!(buckets.wait_ns(quota) <= most, "{}", endpoint.address);
        }
        assert!(self.tries_max <= TOKEN_TRIES_MAX);
    }

    /// So many milliseconds; the attempts by address meanwhile.
    fn run(&mut self, millis: u64) -> BTreeMap<String, u64> {
        self.offer(OFFERED, millis)
    }

    fn offer(&mut self, per_milli: u32, millis: u64) -> BTreeMap<String, u64> {
        self.asked.clear();
        (0..millis).for_each(|_| self.step(per_milli));
        self.asked.clone()
    }

    /// How many tokens all workers have taken in advance.
    fn ahead(&self) -> u64 {
        let ahead = self.workers.iter().map(|worker| u64::from(worker.ahead()));
        ahead.sum()
    }

    /// Whether every bucket has so many tokens, as a new worker sees them.
    fn all_have(&self, tokens: u64) -> bool {
        let cluster = Worker::new(&self.config, self.now, 0).cluster;
        let buckets = Buckets::read(&self.shared.0, self.now).at_cost(tokens as u32);
        let mut quotas = cluster.endpoints.iter().map(|it| it.quota.as_deref());
        quotas.all(|quota| buckets.wait_ns(quota.unwrap()) == 0)
    }
}

fn address(place: usize) -> String {
    format!("10.0.0.{}:80", place + 1)
}

#[test]
fn rl_1_a_mass_failover_owes_a_burst_and_no_more_and_nobody_starves() {
    for seed in 0..4 {
        let mut fleet = Fleet::new(seed, BURST);
        fleet.run(2000);
        let all = fleet.run(5000);
        // Every backend at its rate, and nobody else's requests are lost.
        let due = PER_SECOND * 5;
        assert!(
            all.values().all(|asked| asked.abs_diff(due) <= due / 50),
            "{all:?}"
        );
        assert_eq!((all.len(), fleet.lost), (BACKENDS, 0));

        fleet.dead = (0..BACKENDS / 2).map(address).collect();
        let half = fleet.run(5000);
        // What is under way has not been charged yet.
        let most = due + BURST + PER_SECOND / 10;
        let living: Vec<u64> = (BACKENDS / 2..BACKENDS)
            .map(|i| half[&address(i)])
            .collect();
        println!("seed {seed}: {all:?}; with half of them dead {half:?}, at most {most} are due");
        assert!(
            living
                .iter()
                .all(|asked| *asked <= most && *asked >= due - due / 50),
            "{half:?}"
        );

        fleet.dead.clear();
        fleet.run(1000);
        let lost = fleet.lost;
        let again = fleet.run(5000);
        assert!(
            again.values().all(|asked| asked.abs_diff(due) <= due / 50),
            "{again:?}"
        );
        assert_eq!(fleet.lost, lost);
        println!(
            "{} served, {} refused, {} lost; {} conflicts, {} tries at most, {} unpaid",
            fleet.served, fleet.refused, fleet.lost, fleet.conflicts, fleet.tries_max, fleet.unpaid
        );
        assert!(fleet.conflicts > 1000, "workers did not meet");
        assert!(
            fleet.unpaid * 1000 <= fleet.served,
            "{} unpaid",
            fleet.unpaid
        );
    }
}

#[test]
fn rl_1_tokens_taken_in_advance_are_given_away_once_and_come_back() {
    for seed in 0..4 {
        let mut fleet = Fleet::new(seed, PLENTY);
        // So many per backend at once, and its rate from then on.
        let flood = fleet.offer(2 * OFFERED, 4000);
        let due = PLENTY + PER_SECOND * 4;
        let slack = due / 50;
        println!(
            "seed {seed}: {flood:?} in 4 s, {due} are due; {} without a look, {} conflicts",
            fleet.prepaid, fleet.conflicts
        );
        assert!(
            flood
                .values()
                .all(|asked| *asked <= due && *asked >= due - slack),
            "{flood:?}"
        );
        assert!(fleet.prepaid > PLENTY, "{} without a look", fleet.prepaid);
        // Nobody asks any more: all is as new, and nobody has kept any.
        fleet.offer(0, 1000 * PLENTY / PER_SECOND + 2 * TICK);
        assert!(fleet.ahead() == 0 && fleet.all_have(PLENTY));

        // All VMs die with what they have taken: it is lost, and no more than that.
        fleet.offer(OFFERED, TICK / 2);
        let (lost, asked) = (fleet.ahead(), fleet.asked.values().sum::<u64>());
        let (now, config) = (fleet.now, fleet.config.clone());
        for worker in &mut fleet.workers {
            *worker = Worker::new(&config, now, worker.rng.draw());
        }
        let rest = fleet.offer(2 * OFFERED, 4000).values().sum::<u64>();
        let due = BACKENDS as u64 * (PLENTY + PER_SECOND * 4050 / 1000);
        println!("{asked} were asked, {lost} died with their workers, then {rest} of {due}");
        assert!(lost > 0 && lost <= BACKENDS as u64 * PLENTY / 16, "{lost}");
        assert!(asked + rest + lost <= due && asked + rest + lost >= due - due / 50);
    }
}
