//! `make bench`: Pointsman's figures beside those of what users would pick instead.
//!
//! Prints a table, and leaves `report.json` and plots in `target/bench`. `QUICK=1` measures the
//! cases that say most. Exits with an error only when a case could not be measured, never because
//! of a figure.
//!
//! In reading order: [`cpu`] compares the [`contender`]s, [`variants`] of one bootstrap, under a [`load`],
//! [`counts`] counts in an interpreter ([`harness::vm`]) what no machine disturbs,
//! [`pairs`] of clusters say what a field costs, [`core`] times the routing core alone, [`ticks`] a tick of one of 64 workers, [`keys`] follows keys when backends change, [`delivery`] and
//! [`verdict`] follow news to the workers and [`memory`] what Envoy keeps of it, [`fanout`] follows it
//! to many proxies, [`failover`] kills a backend; [`targets`] and [`report`] say what it came to.

mod contender;
mod core;
mod counts;
mod cpu;
mod delivery;
mod failover;
mod fanout;
mod figures;
mod home;
mod keys;
mod load;
mod machine;
mod memory;
mod pairs;
mod picker;
mod plot;
mod profile;
mod report;
mod responder;
mod samples;
mod targets;
mod ticks;
mod variants;
mod verdict;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{env, mem};

use anyhow::{Context, Result, bail};
use harness::artefacts;
use machine::Cores;
use profile::Profile;
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// This program is also the small servers that it measures against.
fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        let cores = Cores::choose()?;
        machine::pin(nix::unistd::getpid().as_raw(), cores.others)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(run(cores));
    };
    match command.as_str() {
        responder::COMMAND => responder::serve(rest.first().context("no port")?.parse()?)?,
        picker::COMMAND => picker::serve(rest)?,
        core::COMMAND => core::pick(rest)?,
        _ => bail!("unknown command {command}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The sections of the report, with what went wrong.
struct Sections {
    report: Map<String, Value>,
    failed: Vec<(String, String)>,
    /// When the section under way began.
    since: Instant,
    /// How long each took, seconds.
    seconds: Map<String, Value>,
}

impl Sections {
    /// Takes a section in; one that could not be measured is empty, and named among the skipped.
    fn take(&mut self, name: &str, figures: Result<Map<String, Value>>) {
        let figures = figures.unwrap_or_else(|error| {
            eprintln!("bench: {name}: {error:#}");
            self.failed.push((name.to_owned(), format!("{error:#}")));
            Map::new()
        });
        self.report.insert(name.to_owned(), figures.into());
        let took = mem::replace(&mut self.since, Instant::now()).elapsed();
        self.seconds.insert(name.to_owned(), took.as_secs().into());
    }

    /// Adds a case to the figures of the delivery; one that could not be measured is named.
    fn add_delivery(
        &mut self,
        figures: &mut Result<Map<String, Value>>,
        case: &str,
        figure: Result<Value>,
    ) {
        match (figures, figure) {
            (Ok(figures), Ok(figure)) => drop(figures.insert(case.to_owned(), figure)),
            (_, Err(error)) => {
                let failed = (format!("delivery.{case}"), format!("{error:#}"));
                self.failed.push(failed);
            }
            (Err(_), Ok(_)) => {}
        }
    }

    /// Adds what Envoy keeps to the cases of the same registries.
    fn add_memory(
        &mut self,
        figures: &mut Result<Map<String, Value>>,
        memory: Result<Map<String, Value>>,
    ) {
        match (figures, memory) {
            (Ok(figures), Ok(memory)) => {
                for (case, line) in memory {
                    let figure = figures.entry(case).or_insert_with(|| json!({}));
                    figure["rssBytesPerUpdate"] = line["bytesPerUpdate"].clone();
                    figure["rss"] = line;
                }
            }
            (_, Err(error)) => {
                let failed = ("delivery.rss".to_owned(), format!("{error:#}"));
                self.failed.push(failed);
            }
            (Err(_), Ok(_)) => {}
        }
    }
}

async fn run(cores: Cores) -> Result<ExitCode> {
    let profile = Profile::from_environment();
    let begun = Instant::now();
    let mut sections = Sections {
        report: Map::new(),
        failed: Vec::new(),
        since: begun,
        seconds: Map::new(),
    };
    let mut skipped = Vec::new();
    sections.report.insert("schema".to_owned(), 1.into());
    sections.report.insert("commit".to_owned(), commit().into());
    let name = profile.name();
    sections.report.insert("profile".to_owned(), name.into());
    let machine = machine::describe(cores);
    sections.report.insert("machine".to_owned(), machine);

    println!("CPU and latency per request");
    let mut comparison = cpu::run(&profile, cores).await?;
    counts::fill_in(&profile, &mut comparison.cases)?;
    sections.take("cpu", Ok(comparison.cases));
    sections.failed.append(&mut comparison.failed);
    sections.take("vm", counts::memory());
    if profile.has("pairs") {
        println!("What fields cost");
        sections.take("pairs", pairs::run(&profile, cores).await);
    }
    if profile.has("core") {
        measure_core(&profile, cores, &mut sections, &mut skipped);
        machine::pin(nix::unistd::getpid().as_raw(), cores.others)?;
    }
    if profile.has("keys") {
        println!("Keys, natively");
        sections.take("keys", keys::run(&profile, cores));
    }
    if profile.has("delivery") {
        measure_delivery(&profile, cores, &mut sections, &mut skipped).await;
    }
    if profile.has("fanout") {
        println!("Many proxies");
        sections.take("fanout", fanout::run(&profile).await);
    }
    if profile.has("failover") {
        println!("Failover");
        let failover = failover::run(&profile).await;
        let failover =
            failover.map(|figure| Map::from_iter([("killOneOfThree".to_owned(), figure)]));
        sections.take("failover", failover);
    }
    let bytes = counts::module_bytes()?;
    let wasm = json!({"bytes": bytes});
    sections.report.insert("wasm".to_owned(), wasm);
    let mut method = comparison.method;
    method["seconds"] = begun.elapsed().as_secs().into();
    method["secondsOfSections"] = sections.seconds.clone().into();
    method["vmBytes"] = "linear memory of the module in an interpreter, configured".into();
    method["hostCalls"] = "counted by an interpreter's host, one good request".into();
    sections.report.insert("method".to_owned(), method);
    close(sections, skipped, &profile)
}

fn measure_core(
    profile: &Profile,
    cores: Cores,
    sections: &mut Sections,
    skipped: &mut Vec<Value>,
) {
    println!("The core, natively");
    let valgrind = env::var_os("VALGRIND").map(PathBuf::from);
    if valgrind.is_none() {
        skipped.push(json!({"case": "core.instructions", "reason": "VALGRIND is not set"}));
    }
    sections.take("core", core::run(profile, cores, valgrind.as_deref()));
}

/// Edits, verdicts and changes in stores on their way to the workers, and what Envoy keeps of them.
async fn measure_delivery(
    profile: &Profile,
    cores: Cores,
    sections: &mut Sections,
    skipped: &mut Vec<Value>,
) {
    println!("Delivery");
    // Nothing is compared here, and news passes many processes: a core each is closer to what users
    // have than one for all.
    if let Err(error) = machine::spread(cores) {
        eprintln!("bench: {error:#}");
    }
    let mut delivery = delivery::edits(profile, cores).await;
    let verdict = verdict::run(profile, cores).await;
    sections.add_delivery(&mut delivery, "verdict", verdict);
    if profile.changes > 0 {
        let redis = delivery::redis(profile, cores).await;
        sections.add_delivery(&mut delivery, "redis.1000", redis);
        match delivery::kubernetes(profile, cores).await.transpose() {
            Some(figure) => sections.add_delivery(&mut delivery, "kubernetes.1000", figure),
            None => {
                let reason = "there is no API server here";
                skipped.push(json!({"case": "delivery.kubernetes.1000", "reason": reason}));
            }
        }
    }
    if profile.has("memory") {
        let memory = memory::run(profile, cores).await;
        sections.add_memory(&mut delivery, memory);
    }
    sections.take("delivery", delivery);
}

/// Judges, writes and prints.
fn close(sections: Sections, mut skipped: Vec<Value>, profile: &Profile) -> Result<ExitCode> {
    let Sections { report, failed, .. } = sections;
    let mut report = Value::Object(report);
    report["targets"] = targets::judge(&report, profile).into();
    skipped.extend(
        failed
            .iter()
            .map(|(case, reason)| json!({"case": case, "reason": reason})),
    );
    report["skipped"] = skipped.into();
    let folder = artefacts::root().join("target/bench");
    report::write(&report, &folder)?;
    println!("{}", report::table(&report));
    println!("report.json and plots: {}", folder.display());
    for (case, reason) in &failed {
        eprintln!("bench: no result for {case}: {reason}");
    }
    Ok(match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What was measured; empty outside a repository.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(artefacts::root())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
