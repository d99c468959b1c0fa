//! What changes around the workers: backends, verdicts, the registry.

use std::collections::BTreeSet;
use std::rc::Rc;

use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::cluster::Cluster;
use pointsman_filter::config::{BackendConfig, ClusterConfig, State};
use pointsman_filter::fleet::regimes::tidy;
use pointsman_filter::gates::{Gates, availability};

use super::{Day, HOSTS, IDS, Manner, SECOND};

/// Bursts of requests after which every backend has had its turn, whatever the policy.
const BURSTS_MAX: u32 = 500;
/// So many at once that the busy ones are no choice any more.
const BURST: u32 = 20;

impl Day {
    pub(super) fn change_manners(&mut self) {
        let host = self.rng.below(HOSTS);
        let manner = match self.rng.below(6) {
            0 | 1 => Manner::Answers,
            2 => Manner::Resets,
            3 => Manner::Limits,
            _ => Manner::Refuses,
        };
        // Some days everything goes at once.
        let all = self.chance(10);
        for host in if all { 0..HOSTS } else { host..host + 1 } {
            self.manners.insert(address_of(host).to_string(), manner);
        }
    }

    pub(super) fn change_verdicts(&mut self) {
        let (all, sick) = (self.chance(15), self.rng.below(2) == 0);
        let one = self.rng.below(self.config.backends.len() as u32) as usize;
        let mut judged = self.ledger.unhealthy.clone();
        for (place, backend) in self.config.backends.iter().enumerate() {
            if all || place == one {
                if sick {
                    judged.insert(backend.key());
                } else {
                    judged.remove(&backend.key());
                }
            }
        }
        self.tell_verdicts(judged);
    }

    /// The sidecar tells all verdicts.
    fn tell_verdicts(&mut self, judged: BTreeSet<BackendKey>) {
        let unhealthy: Vec<BackendKey> = judged.iter().copied().collect();
        let cluster = self.workers[0].cluster.clone();
        let now = self.now;
        let events = self.update(0, true, |gates, _| {
            let mut events = Vec::new();
            gates.judge(
                &unhealthy,
                |key| unhealthy.binary_search(&key).is_err(),
                now,
            );
            availability::all_down(&cluster, gates, &mut events);
            events
        });
        self.ledger.unhealthy = judged;
        self.ledger.forgotten.clear();
        self.ledger.told(&cluster, &events);
    }

    pub(super) fn add_backend(&mut self) {
        let mut config = ClusterConfig::clone(&self.config);
        let id = format!("b{}", self.rng.below(IDS));
        if config.backends.iter().any(|backend| backend.id == id) {
            return;
        }
        // Two ids more than addresses: some share one.
        let host = id[1..].parse::<u32>().unwrap() % HOSTS;
        config.backends.push(BackendConfig {
            id,
            id_given: true,
            address: address_of(host),
            weight: [0, 50, 100, 100, 200][self.rng.below(5) as usize],
            backup: self.rng.below(4) == 0,
            sticky_id: None,
            state: State::Normal,
            max_in_flight: 0,
            rate_limit: None,
        });
        self.config = Rc::new(config);
    }

    pub(super) fn edit(&mut self) {
        self.ledger.edited();
        let count = self.config.backends.len() as u32;
        if count == 0 || self.rng.below(2) == 0 {
            return self.add_backend();
        }
        let mut config = ClusterConfig::clone(&self.config);
        let place = self.rng.below(count) as usize;
        match self.rng.below(8) {
            0..3 => drop(config.backends.remove(place)),
            3 => config.backends[place].state = State::Draining,
            4 => config.backends[place].state = State::Cordoned,
            5 => config.backends[place].weight = 50,
            6 => config
                .backends
                .iter_mut()
                .for_each(|b| b.state = State::Normal),
            _ => config.backends.reverse(),
        }
        self.config = Rc::new(config);
    }

    /// One worker takes the newest configuration in, and asks for all verdicts: those on backends that
    /// are new to it may be forgotten by now. Its old streams go on.
    pub(super) fn adopt(&mut self) {
        let place = self.rng.below(self.workers.len() as u32) as usize;
        let worker = &mut self.workers[place];
        worker.config = self.config.clone();
        let seed = worker.rng.draw() as u32;
        let cluster = Cluster::compile(&worker.config, &mut worker.loads, self.now, seed);
        worker.cluster = Rc::new(cluster);
        worker.loads.prune();
        self.tell_verdicts(self.ledger.unhealthy.clone());
    }

    /// After the day's end: every backend takes requests and answers them, until nothing is held
    /// against any of them. Fails where something is still held then.
    pub fn recover(&mut self) {
        let mut config = ClusterConfig::clone(&self.config);
        for backend in &mut config.backends {
            (backend.state, backend.weight, backend.backup) = (State::Normal, 100, false);
        }
        if config.backends.is_empty() {
            // Nobody is left to serve, so no success can end the day's regimes.
            return;
        }
        self.config = Rc::new(config);
        while self
            .workers
            .iter()
            .any(|it| !Rc::ptr_eq(&it.config, &self.config))
        {
            self.adopt();
        }
        self.tidy();
        for _ in 0..BURSTS_MAX {
            if self.shared.0.is_empty() {
                return;
            }
            (0..BURST).for_each(|_| self.request(true));
            self.now = self.now.plus(self.rng.between(1, SECOND));
            self.go_on();
            self.tidy();
        }
        panic!("still held: {:?}", Gates::decode(&self.shared.0));
    }

    /// Bytes of the cluster's record in shared data.
    pub fn shared_bytes(&self) -> usize {
        self.shared.0.len()
    }

    pub(super) fn tidy(&mut self) {
        self.ledger.edited();
        let (cluster, now) = (self.workers[0].cluster.clone(), self.now);
        let config = &self.workers[0].config;
        let mut workers = self.workers.iter();
        let settled = workers.all(|worker| Rc::ptr_eq(&worker.config, config));
        let events = self.update(0, true, |gates, _| tidy(&cluster, gates, settled, now));
        self.ledger.told(&cluster, &events);
        let gates = Gates::decode(&self.shared.0);
        self.ledger.forgot(
            |key| gates.of(key).is_some_and(|gate| gate.unhealthy),
            &cluster,
        );
    }
}

fn address_of(host: u32) -> std::net::SocketAddr {
    ([10, 0, 0, host as u8 + 1], 80).into()
}
