//! Keys and shards, natively: what a pick by key costs, how evenly keys are spread, and how many of them
//! move when backends come, go or grow.

use std::hint::black_box;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use pointsman_filter::balance::route::{Decision, Facts, route};
use pointsman_filter::base::hash;
use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::Cluster;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::config::ClusterConfig;
use pointsman_filter::gates::Gates;
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::gates::view::GatesView;
use serde_json::{Map, Value, json};

use crate::figures::rounded;
use crate::machine::{self, Cores};
use crate::profile::Profile;

const NOW: WallTime = WallTime::from_ns(1_800_000_000_000_000_000);
const NOBODY: u32 = u32::MAX;

/// A cluster whose backends are told by number.
struct Keyed {
    cluster: Cluster,
    gates: Gates,
    /// By the endpoint's place.
    numbers: Vec<u32>,
}

impl Keyed {
    fn new(policy: &str, backends: impl IntoIterator<Item = (u32, u32)>) -> Result<Self> {
        let backend = |(i, weight): (u32, u32)| {
            let address = format!("10.{}.{}.{}:80", i >> 16 & 255, i >> 8 & 255, i & 255);
            json!({"id": i.to_string(), "address": address, "weight": weight})
        };
        let document = json!({
            "name": "orders", "loadBalancing": {"policy": policy}, "retry": {"attempts": 1},
            "backends": backends.into_iter().map(backend).collect::<Vec<Value>>(),
        });
        let config = ClusterConfig::parse(&document)?;
        let numbers = config.backends.iter().map(|it| it.id.parse());
        Ok(Keyed {
            numbers: numbers.collect::<Result<_, _>>()?,
            cluster: Cluster::compile(&config, &mut Loads::default(), NOW, 0),
            gates: Gates::default(),
        })
    }

    /// Calls `take` with each key's backend.
    fn each(&self, keys: u64, mut take: impl FnMut(u32)) {
        let gates = GatesView::new(&self.cluster, &self.gates);
        let mut rng = SplitMix64::new(1);
        for user in 0..keys {
            let facts = Facts {
                cluster: &self.cluster,
                gates: &gates,
                buckets: Buckets::read(&[], NOW),
                cookies: &[],
                key: hash::text_key(&user.to_le_bytes()),
                now: NOW,
            };
            let first = match route(black_box(&facts), &mut rng) {
                Decision::Forward(plan) => plan.list.first(),
                Decision::Refuse { .. } => None,
            };
            let number = first.and_then(|first| self.numbers.get(first.place()));
            take(number.copied().unwrap_or(NOBODY));
        }
    }

    fn homes(&self, keys: u64) -> Vec<u32> {
        let mut homes = Vec::new();
        self.each(keys, |home| homes.push(home));
        homes
    }

    /// Nanoseconds per pick, the hash of a key included.
    fn ns(&self, keys: u64) -> f64 {
        let start = Instant::now();
        self.each(keys, |home| _ = black_box(home));
        start.elapsed().as_secs_f64() * 1e9 / keys as f64
    }
}

fn share(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

/// The share of keys that have another home.
fn moved(before: &[u32], after: &[u32]) -> f64 {
    let differ = before.iter().zip(after).filter(|(a, b)| a != b);
    share(differ.count(), before.len())
}

/// Every policy by key, at every size.
pub fn run(profile: &Profile, cores: Cores) -> Result<Map<String, Value>> {
    let keys = if profile.quick { 20_000 } else { 1_000_000 };
    let mut figures = Map::new();
    for policy in ["Rendezvous", "Maglev"] {
        figures.insert(format!("{policy}.weights.10"), weights(policy, keys)?);
        for size in [10, 100, 1000, 10_000] {
            // Asking all of ten thousand takes long, and is not for those.
            let keys = match (policy, size) {
                ("Rendezvous", 10_000) => keys / 20,
                _ => keys,
            };
            let figure = changes(policy, size, keys, cores)?;
            println!("  {policy}, {size} backends, {keys} keys: {figure}");
            figures.insert(format!("{policy}.keys.{size}"), figure);
        }
    }
    Ok(figures)
}

/// Ten backends that weigh 100, 200 … 1,000: how far the worst share is off, percent of the whole, and
/// what moves for each part of a backend's share when it goes, goes down, or weighs twice as much.
fn weights(policy: &str, keys: u64) -> Result<Value> {
    const CHANGED: u32 = 6;
    let weight = |i: u32| (i, 100 * (i + 1));
    let mut ten = Keyed::new(policy, (0..10).map(weight))?;
    let homes = ten.homes(keys);
    let due = |i: u32| f64::from(i + 1) / 55.0;
    let of = |i: u32| share(homes.iter().filter(|home| **home == i).count(), homes.len());
    let off = (0..10).map(|i| (of(i) - due(i)).abs() * 100.0);
    let off = off.fold(0.0, f64::max);
    let without = Keyed::new(policy, (0..10).filter(|i| *i != CHANGED).map(weight))?;
    let twice = |i| (i, if i == CHANGED { 1400 } else { weight(i).1 });
    let grown = Keyed::new(policy, (0..10).map(twice))?.homes(keys);
    let fair = 14.0 / 62.0 - due(CHANGED);
    let removed = moved(&homes, &without.homes(keys)) / due(CHANGED);
    ten.condemn(CHANGED)?;
    let down = moved(&homes, &ten.homes(keys)) / due(CHANGED);
    let figure = json!({
        "offPercent": rounded(off), "removed": rounded(removed), "down": rounded(down),
        "grown": rounded(moved(&homes, &grown) / fair),
    });
    println!("  {policy}, 10 backends of weights 100 to 1000, {keys} keys: {figure}");
    Ok(figure)
}

/// Equal weights: nanoseconds, and which part of the keys moves, times the number of backends, when one
/// goes, goes down, or comes.
fn changes(policy: &str, size: u32, keys: u64, cores: Cores) -> Result<Value> {
    let even = |range: Range<u32>| Keyed::new(policy, range.map(|i| (i, 100)));
    let all = even(0..size)?;
    let start = Instant::now();
    all.each(1, |home| _ = black_box(home));
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    let ns = all.ns(keys);
    let homes = |range, condemned: Option<u32>| {
        let mut keyed = even(range)?;
        condemned.map_or(Ok(()), |it| keyed.condemn(it))?;
        anyhow::Ok(keyed.homes(keys))
    };
    // What is only counted nothing disturbs: on both cores.
    let ((before, removed), (added, down)) = thread::scope(|scope| {
        let others = scope.spawn(|| {
            machine::spread(cores)?;
            anyhow::Ok((homes(0..size + 1, None)?, homes(0..size, Some(size / 2))?))
        });
        let own = (homes(0..size, None)?, homes(1..size, None)?);
        let others = others.join();
        anyhow::Ok((own, others.map_err(|_| anyhow!("it panicked"))??))
    })?;
    let times = |after: &[u32]| rounded(moved(&before, after) * f64::from(size));
    Ok(json!({
        "ns": rounded(ns), "nsPerBackend": rounded(ns / f64::from(size)),
        "firstMs": rounded(first_ms), "removed": times(&removed),
        "added": times(&added), "down": times(&down),
    }))
}

impl Keyed {
    /// The sidecar finds a backend unhealthy.
    fn condemn(&mut self, number: u32) -> Result<()> {
        let mut backends = self.cluster.backends.iter();
        let backend = backends.find(|backend| *backend.id == number.to_string());
        let key = backend.context("no such backend")?.key;
        self.gates.update(key, |gate| gate.judge(true, NOW));
        Ok(())
    }
}
