//! The routing core alone, natively: nanoseconds and instructions per pick and per list.

use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, path::Path};

use anyhow::{Context, Result, ensure};
use pointsman_filter::balance::route::{Decision, Facts, route};
use pointsman_filter::base::random::SplitMix64;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::cluster::{Cluster, EndpointIndex};
use pointsman_filter::config::ClusterConfig;
use pointsman_filter::gates::Gates;
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::gates::evidence::{Evidence, Met};
use pointsman_filter::gates::transition::GateChange;
use pointsman_filter::gates::view::GatesView;
use serde_json::{Map, Value, json};

use crate::cpu::POLICIES;
use crate::figures::{Spread, rounded};
use crate::machine::{self, Cores};
use crate::profile::Profile;
use crate::ticks;

/// The argument that makes this program do nothing but pick.
pub const COMMAND: &str = "pick";
const SIZES: [u32; 4] = [3, 100, 1000, 10_000];
/// Figures of which the median counts.
const SAMPLES: usize = 15;
/// Valgrind is some 50 times slower: as few picks as tell them from the start of the program.
const COUNTED: (u64, u64) = (500, 2500);
/// A pick that looks at everybody is counted fewer times.
const COUNTED_SCAN: (u64, u64) = (20, 60);
const NOW: WallTime = WallTime::from_ns(1_800_000_000_000_000_000);

/// A cluster and all that a decision needs.
struct Table {
    cluster: Cluster,
    gates: Gates,
    rng: SplitMix64,
}

impl Table {
    /// `attempts` is the length of the lists.
    fn new(policy: &str, size: u32, attempts: u32) -> Result<Self> {
        let backend = |i: u32| {
            let address = format!("10.{}.{}.{}:80", i >> 16 & 255, i >> 8 & 255, i & 255);
            json!({"id": format!("orders-{i}"), "address": address})
        };
        let document = json!({
            "name": "orders",
            "loadBalancing": {"policy": policy},
            "retry": {"attempts": attempts},
            "backends": (0..size).map(backend).collect::<Vec<Value>>(),
        });
        let config = ClusterConfig::parse(&document)?;
        let cluster = Cluster::compile(&config, &mut Loads::default(), NOW, 0);
        // Loads as they are in service: most endpoints busy, not all alike.
        for (endpoint, streams) in cluster.endpoints.iter().zip((0..4).cycle()) {
            (0..streams).for_each(|_| endpoint.load.begin());
        }
        Ok(Table {
            cluster,
            gates: Gates::default(),
            rng: SplitMix64::new(42),
        })
    }

    /// Decides so many times.
    fn decide(&mut self, times: u64) {
        let gates = GatesView::new(&self.cluster, &self.gates);
        for _ in 0..times {
            let facts = Facts {
                cluster: &self.cluster,
                gates: &gates,
                buckets: Buckets::read(&[], NOW),
                cookies: &[],
                key: 0,
                now: NOW,
            };
            let decision = route(black_box(&facts), &mut self.rng);
            debug_assert!(matches!(decision, Decision::Forward(_)));
            if let Decision::Forward(plan) = &decision {
                plan.commit(&facts);
            }
            black_box(&decision);
        }
    }

    /// Nanoseconds per decision.
    fn time(&mut self, lasting: Duration) -> Option<f64> {
        let mut times = 1;
        let per_sample = lasting / u32::try_from(SAMPLES).unwrap_or(1);
        loop {
            let start = Instant::now();
            self.decide(times);
            if start.elapsed() >= per_sample {
                break;
            }
            times *= 2;
        }
        let sample = |_| {
            let start = Instant::now();
            self.decide(times);
            start.elapsed().as_secs_f64() * 1e9 / times as f64
        };
        Spread::of((0..SAMPLES).map(sample).collect::<Vec<f64>>()).map(|spread| spread.median)
    }
}

/// Half of ten thousand backends are out: nanoseconds of a decision once the blob has been read, and of one
/// failure that is noted in it, read and written as every try of it does.
fn mass_failure(profile: &Profile) -> Result<Map<String, Value>> {
    let size = SIZES[SIZES.len() - 1];
    let mut table = Table::new("PowerOfTwo", size, 3)?;
    let keys = table.cluster.backends.iter().map(|backend| backend.key);
    let mut out: Vec<_> = keys.step_by(2).collect();
    out.sort_unstable();
    table.gates.judge(&out, |_| false, NOW);
    let decision = table.time(profile.core_sample);
    let failing = (0..table.cluster.endpoints.len()).map(EndpointIndex::of);
    let failing = failing.filter(|endpoint| {
        let mut keys = table.cluster.keys_at(*endpoint);
        keys.all(|key| out.binary_search(&key).is_err())
    });
    let blob = table.gates.encode();
    let note = |(nth, endpoint): (u64, EndpointIndex)| {
        let change = GateChange {
            evidence: vec![Evidence::new(&table.cluster, endpoint, Met::Connect)],
            picked_at: NOW,
            now: NOW,
        };
        let start = Instant::now();
        let mut gates = Gates::decode(black_box(&blob));
        let events = change.apply(&table.cluster, &mut gates, &mut SplitMix64::new(nth));
        black_box((gates.encode(), events));
        start.elapsed().as_secs_f64() * 1e9
    };
    let changes = Spread::of((0..).zip(failing).take(1000).map(note));
    let figure = |ns: Option<f64>| json!({"ns": ns.map(rounded), "instructions": null});
    Ok(Map::from_iter([
        (format!("half.decision.{size}"), figure(decision)),
        (
            format!("half.change.{size}"),
            figure(changes.map(|it| it.median)),
        ),
    ]))
}

/// One figure's policy, backends and length of the lists.
type Case = (&'static str, u32, u32);

/// All of a profile with their keys: `pick` is a list of one.
fn cases(profile: &Profile) -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    let policies = if profile.quick { 1 } else { POLICIES.len() };
    for policy in POLICIES.into_iter().take(policies) {
        for size in SIZES {
            for (operation, attempts) in [("pick", 1), ("list4", 4)] {
                let key = format!("{policy}.{operation}.{size}");
                cases.push((key, (policy, size, attempts)));
            }
        }
    }
    cases
}

/// Measures every policy at every size; instructions where `valgrind` is.
pub fn run(profile: &Profile, cores: Cores, valgrind: Option<&Path>) -> Result<Map<String, Value>> {
    let mut figures = mass_failure(profile)?;
    figures.insert("tick.64".to_owned(), ticks::figure()?);
    let cases = cases(profile);
    for (key, (policy, size, attempts)) in &cases {
        let ns = Table::new(policy, *size, *attempts)?.time(profile.core_sample);
        let figure = json!({"ns": ns.map(rounded), "instructions": null});
        figures.insert(key.clone(), figure);
    }
    if let Some(valgrind) = valgrind {
        // What is only counted nothing disturbs: on both cores.
        machine::spread(cores)?;
        // The same code at every size: the quick profile counts two.
        let is_counted = |size| !profile.quick || matches!(size, 3 | 1000);
        for (key, case) in cases.into_iter().filter(|(_, case)| is_counted(case.1)) {
            let count = instructions(valgrind, case)?;
            figures[&key]["instructions"] = rounded(count).into();
        }
    }
    Ok(figures)
}

/// Instructions per decision: what more decisions take more, so that starting does not count. Both are
/// counted at once.
fn instructions(valgrind: &Path, (policy, size, attempts): Case) -> Result<f64> {
    let scans = policy == "LeastLoaded" && size > 100;
    let (few, many) = if scans { COUNTED_SCAN } else { COUNTED };
    let start = |times: u64| -> Result<Child> {
        Command::new(valgrind)
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .arg(COMMAND)
            .args([policy, &size.to_string(), &attempts.to_string()])
            .arg(times.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start valgrind")
    };
    let (less, more) = (start(few)?, start(many)?);
    let difference = counted(more)? - counted(less)?;
    Ok(difference / (many - few) as f64)
}

/// What valgrind has counted at its end.
fn counted(valgrind: Child) -> Result<f64> {
    let output = valgrind.wait_with_output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {words}");
    let line = words
        .lines()
        .find_map(|line| line.split_once("Collected :"));
    let (_, number) = line.with_context(|| format!("no count in: {words}"))?;
    Ok(number.trim().parse()?)
}

/// Runs as a picker of the core: `POLICY SIZE ATTEMPTS TIMES`.
pub fn pick(arguments: &[String]) -> Result<()> {
    let [policy, size, attempts, times] = arguments else {
        anyhow::bail!("POLICY SIZE ATTEMPTS TIMES");
    };
    Table::new(policy, size.parse()?, attempts.parse()?)?.decide(times.parse()?);
    Ok(())
}
