//! How a cluster's requests are spread.

use serde_json::{Map, Value};

use super::affinity::{Affinity, ShuffleShard};
use super::averaging::Averaging;
use super::policy::{insert, name_of, part};
use super::reader::{Object, Path, Report};
use super::slow_start::SlowStart;

const TABLE_SIZE_DEFAULT: u32 = 65_537;
const TABLE_SIZE_MAX: u32 = 524_287;

/// How one of several candidates is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// In turns; smoothly by weight where weights differ (LB-1, LB-2).
    RoundRobin,
    /// By chance, in proportion to the weights (LB-3).
    Random,
    /// The least loaded of all (LB-5 to LB-7).
    LeastLoaded,
    /// The less loaded of two drawn by chance (LB-8).
    #[default]
    PowerOfTwo,
    /// The best by rank, which the weight is, and cost (LB-13 to LB-15).
    Tiered,
    /// The one that stands first in the key's own ranking of all (LB-10).
    Rendezvous,
    /// The one to which a table gives the key (LB-11).
    Maglev,
}

impl Policy {
    /// Whether a request's key decides, and nothing else.
    pub fn is_affine(self) -> bool {
        matches!(self, Policy::Rendezvous | Policy::Maglev)
    }

    /// Whether the weights may be others at every pick.
    fn weighs_anew(self) -> bool {
        !self.is_affine() && self != Policy::Tiered
    }
}

/// What "load" means; always per unit of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// Requests in flight.
    #[default]
    Requests,
    /// Connections, which to an HTTP filter are the streams in flight.
    Connections,
    /// (in flight + 1) × peak EWMA of the time to get a connection.
    ConnectionTime,
    /// (in flight + 1) × peak EWMA of the time to the response headers.
    Latency,
}

impl Metric {
    /// Whether it weighs a measured time rather than a count.
    pub fn is_time(self) -> bool {
        matches!(self, Metric::ConnectionTime | Metric::Latency)
    }
}

const POLICIES: &[(&str, Policy)] = &[
    ("RoundRobin", Policy::RoundRobin),
    ("Random", Policy::Random),
    ("LeastLoaded", Policy::LeastLoaded),
    ("PowerOfTwo", Policy::PowerOfTwo),
    ("Tiered", Policy::Tiered),
    ("Rendezvous", Policy::Rendezvous),
    ("Maglev", Policy::Maglev),
];
const METRICS: &[(&str, Metric)] = &[
    ("Requests", Metric::Requests),
    ("Connections", Metric::Connections),
    ("ConnectionTime", Metric::ConnectionTime),
    ("Latency", Metric::Latency),
];

/// A cluster's `loadBalancing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancing {
    /// The policy; default PowerOfTwo.
    pub policy: Policy,
    /// The load it compares; default Requests.
    pub metric: Metric,
    /// Where a request's key stands; absent: the client's address, where a key is needed.
    pub affinity: Option<Affinity>,
    /// How many slots Maglev's table has: a prime.
    pub table_size: u32,
    /// What Tiered makes of measured times.
    pub averaging: Averaging,
    /// Absent: a backend that comes has all its weight at once.
    pub slow_start: Option<SlowStart>,
    /// Absent: every client reaches every backend.
    pub shuffle_shard: Option<ShuffleShard>,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        LoadBalancing {
            policy: Policy::default(),
            metric: Metric::default(),
            affinity: None,
            table_size: TABLE_SIZE_DEFAULT,
            averaging: Averaging::default(),
            slow_start: None,
            shuffle_shard: None,
        }
    }
}

impl LoadBalancing {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let policy = object.choice("policy", Policy::default(), POLICIES);
        let balancing = LoadBalancing {
            policy,
            metric: object.choice("metric", Metric::default(), METRICS),
            affinity: part(&object, "affinity", report, Affinity::read),
            table_size: object.number("maglevTableSize", TABLE_SIZE_DEFAULT, 2, TABLE_SIZE_MAX),
            averaging: Averaging::read(&object, policy == Policy::Tiered, report),
            slow_start: part(&object, "slowStart", report, SlowStart::read),
            shuffle_shard: part(&object, "shuffleShard", report, ShuffleShard::read),
        };
        if !is_prime(balancing.table_size) {
            report.error(&object.at("maglevTableSize"), "must be a prime");
        }
        if balancing.affinity.is_some() && !balancing.needs_keys() {
            // A newer module may have more policies that need keys.
            let why = "needs policy Rendezvous or Maglev, or shuffleShard";
            report.unknown(&object.at("affinity"), why);
        }
        if balancing.slow_start.is_some() && !balancing.policy.weighs_anew() {
            let why = "needs policy RoundRobin, Random, LeastLoaded or PowerOfTwo";
            report.unknown(&object.at("slowStart"), why);
        }
        Some(balancing)
    }

    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        insert(&mut map, "policy", name_of(POLICIES, self.policy));
        insert(&mut map, "metric", name_of(METRICS, self.metric));
        if let Some(affinity) = &self.affinity {
            insert(&mut map, "affinity", affinity.write());
        }
        if self.table_size != TABLE_SIZE_DEFAULT {
            insert(&mut map, "maglevTableSize", self.table_size);
        }
        self.averaging.write(&mut map);
        if let Some(slow_start) = self.slow_start {
            insert(&mut map, "slowStart", slow_start.write());
        }
        if let Some(shuffle_shard) = self.shuffle_shard {
            insert(&mut map, "shuffleShard", shuffle_shard.write());
        }
        Value::Object(map)
    }

    /// The lowest number of the schema that has all of it.
    pub(super) fn schema(&self) -> u32 {
        let has_keys = self.needs_keys() || self.table_size != TABLE_SIZE_DEFAULT;
        match self.slow_start {
            _ if self.policy == Policy::Tiered => 7,
            Some(_) => 6,
            None if has_keys => 4,
            None => 1,
        }
    }

    /// How measured times are averaged; `None` where the policy does not.
    pub fn averages(&self) -> Option<Averaging> {
        (self.policy == Policy::Tiered).then_some(self.averaging)
    }

    fn needs_keys(&self) -> bool {
        self.policy.is_affine() || self.shuffle_shard.is_some()
    }

    /// Where a request's key stands; `None` where nothing depends on it.
    pub fn key_source(&self) -> Option<Affinity> {
        let source = || self.affinity.clone().unwrap_or_default();
        self.needs_keys().then(source)
    }
}

fn is_prime(number: u32) -> bool {
    let divides = |divisor: &u32| number.checked_rem(*divisor) == Some(0);
    let may_divide = |divisor: &u32| divisor.saturating_mul(*divisor) <= number;
    number > 1
        && !(2..)
            .take_while(may_divide)
            .any(|divisor| divides(&divisor))
}
