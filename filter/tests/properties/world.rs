//! Any cluster with any gates, loads and cookies, and its rules computed anew from the document.

use std::collections::BTreeMap;

use pointsman_filter::balance::route::{Decision, Facts, route};
use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::Cluster;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::config::{
    BackendConfig, ClusterConfig, Cooldown, Metric, Policy, State, WhenAllUnhealthy,
};
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::gates::standing::Standing;
use pointsman_filter::gates::view::GatesView;
use pointsman_filter::gates::{Gate, Gates};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

pub const NOW: WallTime = WallTime::from_ns(1_000_000_000_000_000);
const SECOND: u64 = 1_000_000_000;

/// Everything a decision depends on.
#[derive(Debug, Clone)]
pub struct World {
    pub config: ClusterConfig,
    pub gates: Vec<Gate>,
    /// (streams, measured time) by backend.
    pub loads: Vec<(u32, u64)>,
    pub cookies: Vec<Vec<u8>>,
    pub seed: u64,
}

pub struct Built {
    pub cluster: Cluster,
    pub gates: Gates,
    pub rng: SplitMix64,
}

/// What the document says of an address that takes requests.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub backup: bool,
    pub weight: u16,
    pub standing: Standing,
}

impl World {
    pub fn build(&self) -> Built {
        let mut loads = Loads::default();
        let cluster = Cluster::compile(&self.config, &mut loads, NOW, self.seed as u32);
        for (backend, (streams, time_ns)) in cluster.backends.iter().zip(&self.loads) {
            let load = &cluster.endpoint(backend.endpoint).unwrap().load;
            (0..*streams).for_each(|_| load.begin());
            load.observe(*time_ns, NOW);
        }
        let mut gates = Gates::default();
        for gate in &self.gates {
            gates.update(gate.key, |held| *held = *gate);
        }
        let rng = SplitMix64::new(self.seed);
        Built {
            cluster,
            gates,
            rng,
        }
    }

    pub fn decide(&self, built: &mut Built) -> Decision {
        let gates = GatesView::new(&built.cluster, &built.gates);
        let facts = self.facts(&built.cluster, &gates);
        let decision = route(&facts, &mut built.rng);
        if let Decision::Forward(plan) = &decision {
            plan.commit(&facts);
        }
        decision
    }

    pub fn facts<'a>(&'a self, cluster: &'a Cluster, gates: &'a GatesView<'a>) -> Facts<'a> {
        Facts {
            cluster,
            gates,
            buckets: Buckets::read(&[], NOW),
            cookies: self.cookies(),
            key: self.seed,
            now: NOW,
        }
    }

    pub fn cookies(&self) -> &[Vec<u8>] {
        let sticky = self.config.sticky.is_some();
        if sticky { &self.cookies } else { &[] }
    }

    /// The same, but that trials hold nobody back.
    pub fn lifting_trials(&self) -> Self {
        let mut world = self.clone();
        for gate in world.gates.iter_mut().filter(|gate| gate.on_trial) {
            (gate.on_trial, gate.until) = (false, WallTime::default());
        }
        world
    }

    /// The standing of a backend's address: the worst of what is held against its backends.
    pub fn standing(&self, backend: &BackendConfig) -> Standing {
        let all = self.config.backends.iter();
        let held: Vec<&Gate> = all
            .filter(|b| b.address == backend.address)
            .filter_map(|b| self.gates.iter().rev().find(|gate| gate.key == b.key()))
            .filter(|gate| gate.has_counts() || gate.unhealthy || gate.cools(NOW))
            .collect();
        if held.iter().any(|gate| gate.backs_off(NOW)) {
            Standing::BackingOff
        } else if held.iter().any(|gate| gate.cools(NOW)) {
            Standing::CoolingDown
        } else if held.iter().any(|gate| gate.is_on_trial(NOW)) {
            Standing::OnTrial
        } else if held.iter().any(|gate| gate.unhealthy) {
            Standing::Unhealthy
        } else {
            Standing::Ready
        }
    }

    /// Whether a backend takes requests: to Tiered weight 0 is a drain.
    pub fn takes(&self, backend: &BackendConfig) -> bool {
        let has_rank = self.config.load_balancing.policy != Policy::Tiered || backend.weight > 0;
        backend.state == State::Normal && has_rank
    }

    /// The addresses that take requests.
    pub fn addresses(&self) -> BTreeMap<String, Known> {
        let takes = |b: &&BackendConfig| self.takes(b);
        let mut addresses = BTreeMap::new();
        for backend in self.config.backends.iter().filter(takes) {
            let at_it: Vec<&BackendConfig> = self
                .config
                .backends
                .iter()
                .filter(takes)
                .filter(|b| b.address == backend.address)
                .collect();
            let backup = at_it.iter().all(|b| b.backup);
            let in_tier = at_it.iter().filter(|b| b.backup == backup);
            let known = Known {
                backup,
                weight: in_tier.map(|b| b.weight).max().unwrap(),
                standing: self.standing(backend),
            };
            addresses.insert(backend.address.to_string(), known);
        }
        addresses
    }
}

fn a_state() -> impl Strategy<Value = State> {
    prop_oneof![
        8 => Just(State::Normal),
        1 => Just(State::Draining),
        1 => Just(State::Cordoned),
    ]
}

fn a_weight() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0u16), Just(1), Just(100), Just(u16::MAX), any::<u16>()]
}

prop_compose! {
    fn a_backend()(
        host in 1u8..7,
        weight in a_weight(),
        backup in prop::bool::weighted(0.3),
        sticky_id in prop::option::weighted(0.3, select(vec!["x", "y", "b1"])),
        state in a_state(),
    ) -> BackendConfig {
        let backend = backend(0, host, weight);
        BackendConfig { backup, sticky_id: sticky_id.map(str::to_owned), state, ..backend }
    }
}

/// A plain backend: its place names it.
pub fn backend(place: usize, host: u8, weight: u16) -> BackendConfig {
    BackendConfig {
        id: format!("b{place}"),
        id_given: true,
        address: ([10, 0, 0, host], 80).into(),
        weight,
        backup: false,
        sticky_id: None,
        state: State::Normal,
        max_in_flight: 0,
        rate_limit: None,
    }
}

/// A cluster without backends.
pub fn empty(sticky: bool) -> ClusterConfig {
    let document = if sticky {
        json!({"name": "c", "backends": [], "sticky": {"cookie": "P"}})
    } else {
        json!({"name": "c", "backends": []})
    };
    ClusterConfig::parse(&document).unwrap()
}

const POLICIES: [Policy; 7] = [
    Policy::RoundRobin,
    Policy::Random,
    Policy::LeastLoaded,
    Policy::PowerOfTwo,
    Policy::Tiered,
    Policy::Rendezvous,
    Policy::Maglev,
];
const METRICS: [Metric; 4] = [
    Metric::Requests,
    Metric::Connections,
    Metric::ConnectionTime,
    Metric::Latency,
];

prop_compose! {
    fn a_config()(
        mut backends in prop::collection::vec(a_backend(), 0..10),
        (policy, metric) in (select(POLICIES.to_vec()), select(METRICS.to_vec())),
        attempts in 1u32..=10,
        refuse in prop::bool::weighted(0.3),
        sticky in any::<bool>(),
        (max_tries, cools, half_open) in (1u32..=16, any::<bool>(), any::<bool>()),
    ) -> ClusterConfig {
        let mut config = empty(sticky);
        for (place, backend) in backends.iter_mut().enumerate() {
            backend.id = format!("b{place}");
        }
        config.backends = backends;
        (config.load_balancing.policy, config.load_balancing.metric) = (policy, metric);
        config.load_balancing.table_size = 251;
        (config.retry.attempts, config.backoff.max_tries) = (attempts, max_tries);
        config.backoff.half_open = half_open;
        config.passive.cooldown = cools.then(Cooldown::default);
        if refuse {
            config.when_all_unhealthy = WhenAllUnhealthy::Refuse;
        }
        config
    }
}

/// A moment: about now, or at the ends of what 64 bits hold.
pub fn a_time() -> impl Strategy<Value = WallTime> {
    let now = NOW.ns();
    let ns = prop_oneof![
        6 => now - 10 * SECOND..now + 10 * SECOND,
        1 => Just(0),
        1 => any::<u64>(),
        1 => Just(now),
    ];
    ns.prop_map(WallTime::from_ns)
}

prop_compose! {
    fn a_gate(backends: usize)(
        place in 0..backends + 2,
        tries in prop_oneof![Just(0u8), 1u8..8, any::<u8>()],
        unhealthy in any::<bool>(),
        (failed_at, until) in (a_time(), a_time()),
        on_trial in prop::bool::weighted(0.2),
        cooldowns in prop_oneof![3 => Just(0u8), 1 => any::<u8>()],
        (cooled_at, cools_until) in (a_time(), a_time()),
    ) -> (usize, Gate) {
        let (down, unhealthy_since) = (tries > 7, failed_at);
        let (cooled_at, cools_until) = match cooldowns {
            0 => Default::default(),
            _ => (cooled_at, cools_until),
        };
        let gate = Gate {
            key: BackendKey(0), tries, down, ejected: tries % 2 == 1, on_trial, unhealthy, failed_at, until, unhealthy_since, recovered_at: WallTime::default(),
            cooldowns, cooled_at, cools_until,
        };
        (place, gate)
    }
}

pub fn a_world() -> impl Strategy<Value = World> {
    a_config().prop_flat_map(|config| {
        let count = config.backends.len();
        let gates = prop::collection::vec(a_gate(count), 0..count + 3);
        let loads = prop::collection::vec((0u32..4, any::<u64>()), count);
        let cookie = prop_oneof![
            "[bxy][0-9]?".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..5)
        ];
        let cookies = prop::collection::vec(cookie, 0..3);
        (Just(config), gates, loads, cookies, any::<u64>()).prop_map(
            |(config, gates, loads, cookies, seed)| {
                // Places past the end are strangers to this configuration.
                let keyed = gates.into_iter().map(|(place, gate)| {
                    let backend = config.backends.get(place);
                    let key = backend.map_or(BackendKey(place as u64), BackendConfig::key);
                    Gate { key, ..gate }
                });
                World {
                    gates: keyed.collect(),
                    config,
                    loads,
                    cookies,
                    seed,
                }
            },
        )
    })
}
