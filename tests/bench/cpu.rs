//! CPU per request in Envoy, and latency at one rate for all.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::contender::{CONNECTIONS, Case, Contender, Extra, Kind};
use crate::figures::rounded;
use crate::load::Load;
use crate::machine::{self, Cores};
use crate::profile::Profile;
use crate::samples::{self, Cost, Samples};

/// Of a sample's time, how much of Envoy's core may go to others before the sample is repeated.
const DISTURBED_SHARE: f64 = 0.06;
/// Of native's capacity, how fast the paced load is.
const PACED_SHARE: f64 = 0.25;
/// Seconds of full speed until V8 has optimised what is hot.
const TIER_UP_S: f64 = 1.0;
/// Seconds of full speed for the first connections, per thousand backends.
const FIRST_TOUCH_S: f64 = 0.6;

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

/// The cases of a profile.
pub fn cases(profile: &Profile) -> Vec<Case> {
    let case = |kind, backends| Case { kind, backends };
    let pointsman = |policy, extra, backends| case(Kind::Pointsman(policy, extra), backends);
    let mut cases = vec![
        case(Kind::Native, 3),
        case(Kind::Noop, 3),
        case(Kind::Lua, 3),
        case(Kind::ExtProc, 3),
        case(Kind::Picker, 3),
        pointsman("PowerOfTwo", Extra::None, 3),
    ];
    let all = !profile.quick || !profile.only.is_empty();
    if all {
        cases.extend([Kind::NativeRetry, Kind::Chain].map(|kind| case(kind, 3)));
        for policy in POLICIES.into_iter().skip(1) {
            cases.push(pointsman(policy, Extra::None, 3));
        }
        let extras = [
            Extra::Sticky,
            Extra::Gated,
            Extra::Checked,
            Extra::Upstream,
            Extra::Routes,
            Extra::Tree,
        ];
        for extra in extras {
            cases.push(pointsman("PowerOfTwo", extra, 3));
        }
    }
    // The first connections to ten thousand backends take as long as all that is quick.
    let sizes: &[u32] = if all { &[100, 1000, 10_000] } else { &[1000] };
    for &backends in sizes {
        cases.push(case(Kind::Noop, backends));
        cases.push(pointsman("PowerOfTwo", Extra::None, backends));
    }
    let only = &profile.only;
    cases.retain(|case| only.is_empty() || only.contains(&case.name()));
    cases
}

/// Runs the comparison: all Envoys at once, one awake at a time, round after round; and all of it
/// again with new processes. What a process happens to get (its place in memory, the seeds of its
/// hashes) stays for its life and is worth some per cent: rounds alone would never show that.
pub async fn run(profile: &Profile, cores: Cores) -> Result<Comparison> {
    let blank = |case| (case, Samples::default());
    let mut run = Run {
        profile,
        cores,
        cases: cases(profile).into_iter().map(blank).collect(),
        rate: None,
        disturbed: Disturbed::default(),
    };
    let starts = if run.cases.is_empty() {
        0
    } else {
        profile.starts
    };
    for start in 0..starts {
        println!("  start {} of {}", start + 1, profile.starts);
        run.start(start).await?;
    }
    let failed = run.cases.iter().filter_map(|(case, samples)| {
        let reason = match &samples.failure {
            Some(reason) => reason.clone(),
            None if samples.errors > 0 => format!("{} requests failed", samples.errors),
            None => return None,
        };
        Some((case.name(), reason))
    });
    let method = json!({
        "starts": profile.starts,
        "roundsPerStart": profile.rounds,
        "secondsPerSample": profile.sample.as_secs_f64(),
        "connections": CONNECTIONS,
        "workers": 1,
        "pacedPerSecond": run.rate.map(rounded),
        "pacedSeconds": profile.paced.as_secs_f64() * profile.starts as f64,
        "disturbedShare": DISTURBED_SHARE,
        "disturbedRepeated": run.disturbed.repeated,
        "disturbedKept": run.disturbed.kept,
        "cpuClock": "the process's CPU clock, user and system",
        "ratios": "within a round; toNoop: to the no-op with as many backends",
        "spread": "of a start, the median of its rounds; of those the median, the least, the greatest",
        "latency": "of a start, the percentile of its requests; of those the median",
    });
    Ok(Comparison {
        failed: failed.collect(),
        cases: samples::report(&run.cases, cores.picker.is_some()),
        method,
    })
}

/// The comparison under way.
struct Run<'a> {
    profile: &'a Profile,
    cores: Cores,
    cases: Vec<(Case, Samples)>,
    /// Requests per second of the paced load, once native's capacity is known.
    rate: Option<f64>,
    disturbed: Disturbed,
}

#[derive(Default)]
struct Disturbed {
    repeated: u32,
    kept: u32,
}

impl Run<'_> {
    /// All cases in processes of their own, and their rounds.
    async fn start(&mut self, start: usize) -> Result<()> {
        let mut contenders = Vec::new();
        for (index, (case, samples)) in self.cases.iter_mut().enumerate() {
            if samples.failure.is_some() {
                continue;
            }
            match started(*case, self.cores).await {
                Ok(contender) => contenders.push((index, contender)),
                Err(error) => samples.failure = Some(format!("{error:#}")),
            }
        }
        let count = contenders.len();
        for round in 0..self.profile.rounds {
            let before = start * self.profile.rounds + round;
            for turn in 0..count {
                // Another one begins in every round, so that nobody always follows the same one.
                let (index, contender) = &contenders[(turn + before * 5) % count];
                contender.wake()?;
                self.turn(*index, contender, start, round)?;
                contender.sleep().await?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, index: usize, from: &Contender, start: usize, round: usize) -> Result<()> {
        let (cost, capacity) = self.sample(index, from)?;
        let samples = &mut self.cases[index].1;
        samples.rounds.insert((start, round), cost);
        // The first of the first round is native.
        let rate = *self.rate.get_or_insert(PACED_SHARE * capacity);
        if round > 0 {
            return Ok(());
        }
        let mut load = Load::open(from.envoy.address(), CONNECTIONS, &from.headers)?;
        let timed = load.paced(rate, self.profile.paced)?;
        let millis = timed.iter().map(|one| one.latency.as_secs_f64() * 1e3);
        samples.latencies_ms.push(millis.collect());
        samples.errors += load.errors;
        Ok(())
    }

    /// One sample at full speed; returns the requests per second too.
    fn sample(&mut self, index: usize, from: &Contender) -> Result<(Cost, f64)> {
        let profile = self.profile;
        let mut load = Load::open(from.envoy.address(), CONNECTIONS, &from.headers)?;
        let mut repeats = 0;
        loop {
            let look = || Ok((from.cpu()?, machine::busy(self.cores.envoy)?));
            let flat = load.flat(profile.warm_up, profile.sample, look)?;
            let ((envoy_before, all_before), busy_before) = flat.before;
            let ((envoy_after, all_after), busy_after) = flat.after;
            let envoy = envoy_after - envoy_before;
            let others = (busy_after - busy_before).saturating_sub(envoy);
            let is_disturbed = others.as_secs_f64() > DISTURBED_SHARE * flat.elapsed.as_secs_f64();
            if is_disturbed && repeats < profile.repeats_max {
                repeats += 1;
                self.disturbed.repeated += 1;
                continue;
            }
            self.disturbed.kept += u32::from(is_disturbed);
            self.cases[index].1.errors += load.errors;
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / flat.answers.max(1) as f64;
            let cost = Cost {
                envoy: micros(envoy),
                all: micros(all_after - all_before),
            };
            return Ok((cost, flat.answers as f64 / flat.elapsed.as_secs_f64()));
        }
    }
}

/// Starts a case and lets it touch every backend once: later rounds reuse the connections.
async fn started(case: Case, cores: Cores) -> Result<Contender> {
    let contender = Contender::start(case, cores).await?;
    contender.wake()?;
    let seconds = TIER_UP_S + FIRST_TOUCH_S * f64::from(case.backends) / 1000.0;
    let mut load = Load::open(contender.envoy.address(), CONNECTIONS, &contender.headers)?;
    load.flat(Duration::ZERO, Duration::from_secs_f64(seconds), || Ok(()))?;
    contender.sleep().await?;
    Ok(contender)
}
