//! CPU per request in Envoy, and latency at one rate for all.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::contender::{CONNECTIONS, Case, Contender, Extra, Kind};
use crate::figures::{Spread, percentile, rounded};
use crate::load::Load;
use crate::machine::{self, Cores};
use crate::profile::Profile;

/// Of a sample's time, how much of Envoy's core may go to others before the sample is repeated.
const DISTURBED_SHARE: f64 = 0.06;
/// Of native's capacity, how fast the paced load is.
const PACED_SHARE: f64 = 0.25;
/// Seconds of full speed until V8 has optimised what is hot.
const TIER_UP_S: f64 = 1.5;
/// Seconds of full speed for the first connections, per thousand backends.
const FIRST_TOUCH_S: f64 = 0.7;

/// Every policy there is.
pub const POLICIES: [&str; 4] = ["PowerOfTwo", "RoundRobin", "Random", "LeastLoaded"];

/// What the comparison came to.
pub struct Comparison {
    /// By case, as in the report.
    pub cases: Map<String, Value>,
    /// How it was measured, for the report.
    pub method: Value,
    /// Cases that ended in an error or had errors.
    pub failed: Vec<(String, String)>,
}

#[derive(Default)]
struct Samples {
    /// Microseconds per request by round: in Envoy, and in everything that picks.
    by_round: BTreeMap<usize, (f64, f64)>,
    latencies_ms: Vec<f64>,
    errors: u64,
}

/// The cases of a profile.
pub fn cases(profile: &Profile) -> Vec<Case> {
    let case = |kind, backends| Case { kind, backends };
    let pointsman = |policy, extra, backends| case(Kind::Pointsman(policy, extra), backends);
    let mut cases = vec![
        case(Kind::Native, 3),
        case(Kind::Noop, 3),
        case(Kind::Lua, 3),
        case(Kind::ExtProc, 3),
        pointsman("PowerOfTwo", Extra::None, 3),
    ];
    if !profile.quick {
        for policy in POLICIES.into_iter().skip(1) {
            cases.push(pointsman(policy, Extra::None, 3));
        }
        for extra in [Extra::Sticky, Extra::Gated, Extra::Checked] {
            cases.push(pointsman("PowerOfTwo", extra, 3));
        }
        for backends in [100, 1000] {
            cases.push(case(Kind::Noop, backends));
            cases.push(pointsman("PowerOfTwo", Extra::None, backends));
        }
    }
    cases.push(case(Kind::Noop, 10_000));
    cases.push(pointsman("PowerOfTwo", Extra::None, 10_000));
    let only = &profile.only;
    cases.retain(|case| only.is_empty() || only.contains(&case.name()));
    cases
}

/// Runs the comparison: all Envoys at once, one awake at a time, round after round.
pub async fn run(profile: &Profile, cores: Cores) -> Result<Comparison> {
    let mut failed = Vec::new();
    let mut contenders = Vec::new();
    for case in cases(profile) {
        println!("  starting {}", case.name());
        match start(case, cores).await {
            Ok(contender) => contenders.push((contender, Samples::default())),
            Err(error) => failed.push((case.name(), format!("{error:#}"))),
        }
    }
    let mut disturbed = Disturbed::default();
    let mut rate = 0.0;
    for round in 0..profile.rounds {
        if round % 10 == 0 {
            println!("  round {} of {}", round + 1, profile.rounds);
        }
        let count = contenders.len();
        for turn in 0..count {
            // Another one begins in every round, so that nobody always follows the same one.
            let index = if round == 0 {
                turn
            } else {
                (turn + round * 5) % count
            };
            let (contender, samples) = &mut contenders[index];
            contender.wake()?;
            let capacity = sample(contender, samples, round, profile, cores, &mut disturbed)?;
            if rate == 0.0 {
                // The first of the first round is native.
                rate = PACED_SHARE * capacity;
            }
            if round < profile.paced_rounds {
                pace(contender, samples, rate, profile)?;
            }
            contender.sleep().await?;
        }
    }
    for (contender, samples) in &contenders {
        if samples.errors > 0 {
            let reason = format!("{} requests failed", samples.errors);
            failed.push((contender.case.name(), reason));
        }
    }
    let method = json!({
        "rounds": profile.rounds,
        "secondsPerSample": profile.sample.as_secs_f64(),
        "connections": CONNECTIONS,
        "workers": 1,
        "pacedPerSecond": rounded(rate),
        "pacedSeconds": profile.paced.as_secs_f64() * profile.paced_rounds as f64,
        "disturbedShare": DISTURBED_SHARE,
        "disturbedRepeated": disturbed.repeated,
        "disturbedKept": disturbed.kept,
        "cpuClock": "the process's CPU clock, user and system",
        "ratios": "within a round; toNoop: to the no-op with as many backends",
    });
    Ok(Comparison {
        cases: report(&contenders),
        method,
        failed,
    })
}

/// Starts a case and lets it touch every backend once: later rounds reuse the connections.
async fn start(case: Case, cores: Cores) -> Result<Contender> {
    let contender = Contender::start(case, cores).await?;
    contender.wake()?;
    let seconds = TIER_UP_S + FIRST_TOUCH_S * f64::from(case.backends) / 1000.0;
    let mut load = Load::open(contender.envoy.address(), CONNECTIONS, &contender.headers)?;
    load.flat(Duration::ZERO, Duration::from_secs_f64(seconds), || Ok(()))?;
    contender.sleep().await?;
    Ok(contender)
}

#[derive(Default)]
struct Disturbed {
    repeated: u32,
    kept: u32,
}

/// One sample at full speed; returns the requests per second.
fn sample(
    contender: &Contender,
    samples: &mut Samples,
    round: usize,
    profile: &Profile,
    cores: Cores,
    disturbed: &mut Disturbed,
) -> Result<f64> {
    let mut load = Load::open(contender.envoy.address(), CONNECTIONS, &contender.headers)?;
    let mut repeats = 0;
    let capacity = loop {
        let look = || Ok((contender.cpu()?, machine::busy(cores.envoy)?));
        let flat = load.flat(profile.warm_up, profile.sample, look)?;
        let ((envoy_before, all_before), busy_before) = flat.before;
        let ((envoy_after, all_after), busy_after) = flat.after;
        let envoy = envoy_after - envoy_before;
        let others = (busy_after - busy_before).saturating_sub(envoy);
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / flat.answers.max(1) as f64;
        let figures = (micros(envoy), micros(all_after - all_before));
        samples.by_round.insert(round, figures);
        let is_disturbed = others.as_secs_f64() > DISTURBED_SHARE * flat.elapsed.as_secs_f64();
        if is_disturbed && repeats < profile.repeats_max {
            repeats += 1;
            disturbed.repeated += 1;
            continue;
        }
        disturbed.kept += u32::from(is_disturbed);
        break flat.answers as f64 / flat.elapsed.as_secs_f64();
    };
    samples.errors += load.errors;
    Ok(capacity)
}

fn pace(contender: &Contender, samples: &mut Samples, rate: f64, profile: &Profile) -> Result<()> {
    let mut load = Load::open(contender.envoy.address(), CONNECTIONS, &contender.headers)?;
    let timed = load.paced(rate, profile.paced)?;
    let millis = timed
        .iter()
        .map(|request| request.latency.as_secs_f64() * 1e3);
    samples.latencies_ms.extend(millis);
    samples.errors += load.errors;
    Ok(())
}

fn report(contenders: &[(Contender, Samples)]) -> Map<String, Value> {
    let rounds_of = |name: &str| {
        let found = contenders.iter().find(|(c, _)| c.case.name() == name);
        found.map(|(_, samples)| &samples.by_round)
    };
    let mut cases = Map::new();
    for (contender, samples) in contenders {
        let case = contender.case;
        let noop = Case {
            kind: Kind::Noop,
            ..case
        };
        // The picker's CPU is part of what ext_proc costs.
        let own = samples.by_round.iter();
        let spread = |figures: Vec<f64>| Spread::of(figures).map(|spread| spread.json());
        let ratios = |base: Option<&BTreeMap<usize, (f64, f64)>>| {
            let base = base?;
            let own = samples.by_round.iter();
            spread(
                own.filter_map(|(round, (_, all))| Some(all / base.get(round)?.1))
                    .collect(),
            )
        };
        let mut latencies = samples.latencies_ms.clone();
        let mut entry = json!({
            "usPerRequest": spread(own.clone().map(|(_, (_, all))| *all).collect()),
            "toNative": ratios(rounds_of("native")),
            "toNoop": ratios(rounds_of(&noop.name())),
            "p50Ms": percentile(&mut latencies, 0.5).map(rounded),
            "p99Ms": percentile(&mut latencies, 0.99).map(rounded),
            "errors": samples.errors,
            "hostCalls": null,
            "vmBytes": null,
        });
        if case.kind == Kind::ExtProc {
            entry["usPerRequestInEnvoy"] =
                json!(spread(own.map(|(_, (envoy, _))| *envoy).collect()));
        }
        cases.insert(case.name(), entry);
    }
    cases
}
