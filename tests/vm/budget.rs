//! What the module costs, in figures that are the same on every machine: instructions of the
//! interpreter, bytes of its memory, bytes of its file.
//!
//! A figure that changes by more than 3 % is a deliberate edit: `make test-vm RECORD=1` prints the
//! table to put here.

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use harness::artefacts::{self, MODULE_BYTES_MAX};
use harness::vm::stream::Request;
use harness::vm::{Program, ROOT, Vm};
use serde_json::json;
use wasmparser::{KnownCustom, Name, Parser, Payload};

const CLUSTER: &str = "orders";
const TOLERANCE: f64 = 0.03;
/// Decisions of which a figure is the mean.
const DECISIONS: u64 = 200;

/// Instructions of one decision, from the request's headers to the list: policy, backends, attempts
/// (1 is a pick, 4 is a list).
const DECISION: [(&str, u32, u32, u64); 11] = [
    ("PowerOfTwo", 3, 1, 12564),
    ("PowerOfTwo", 3, 4, 16027),
    ("PowerOfTwo", 1000, 1, 12654),
    ("PowerOfTwo", 1000, 4, 17753),
    ("RoundRobin", 1000, 1, 12434),
    ("RoundRobin", 1000, 4, 16568),
    ("Random", 1000, 1, 12503),
    ("Random", 1000, 4, 16230),
    ("LeastLoaded", 3, 1, 13677),
    ("LeastLoaded", 1000, 1, 527767),
    ("LeastLoaded", 1000, 4, 2189127),
];
/// Instructions to take a configuration of 1,000 backends over.
const CONFIGURATION: u64 = 48_515_445;
/// Linear memory with a configuration of 1,000 backends.
const MEMORY: u64 = 1_835_008;

#[test]
fn a_decision_takes_as_many_instructions_as_recorded() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    let mut changed = Vec::new();
    for (policy, backends, attempts, recorded) in DECISION {
        let mut vm = program.configured(&configuration(policy, backends, attempts))?;
        let figure = decision(&mut vm)?;
        let name = format!("(\"{policy}\", {backends}, {attempts}, {figure}),");
        compare(name, figure, recorded, &mut changed);
    }
    no_change(&changed)
}

#[test]
fn a_configuration_takes_as_many_instructions_and_bytes_as_recorded() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    let vm = program.configured(&configuration("PowerOfTwo", 1000, 3))?;
    let mut changed = Vec::new();
    let (fuel, memory) = (vm.fuel(), vm.memory()?);
    compare(
        format!("CONFIGURATION: {fuel}"),
        fuel,
        CONFIGURATION,
        &mut changed,
    );
    compare(format!("MEMORY: {memory}"), memory, MEMORY, &mut changed);
    no_change(&changed)
}

#[test]
fn the_module_is_small() -> Result<()> {
    let bytes = fs::metadata(artefacts::module()?)?.len();
    ensure!(
        bytes <= MODULE_BYTES_MAX,
        "pointsman.wasm has {bytes} bytes, its limit is {MODULE_BYTES_MAX}"
    );
    Ok(())
}

/// Envoy prints them when the module traps.
#[test]
fn functions_have_names_that_people_read() -> Result<()> {
    let module = fs::read(artefacts::module()?)?;
    let names = function_names(&module)?;
    for part in ["plugin::", "config::", "cluster::", "gates::", "fleet::"] {
        let ours = names.iter().any(|name| name.contains(part));
        ensure!(ours, "no function of {part} has its name");
    }
    let hash = |name: &str| {
        name.rsplit_once("::h")
            .is_some_and(|(_, hash)| hash.len() == 16)
    };
    let unreadable: Vec<&String> = names
        .iter()
        .filter(|name| {
            name.starts_with("_ZN") || name.starts_with("_R") || name.contains('$') || hash(name)
        })
        .collect();
    ensure!(unreadable.is_empty(), "{unreadable:?}");
    Ok(())
}

fn function_names(module: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload? else {
            continue;
        };
        let KnownCustom::Name(subsections) = section.as_known() else {
            continue;
        };
        for subsection in subsections {
            if let Name::Function(functions) = subsection? {
                for function in functions {
                    names.push(function?.name.to_owned());
                }
            }
        }
    }
    ensure!(!names.is_empty(), "the module names no function");
    Ok(names)
}

fn configuration(policy: &str, backends: u32, attempts: u32) -> String {
    let backend = |i: u32| {
        let address = format!("10.0.{}.{}:80", i >> 8, i & 255);
        json!({"id": format!("{CLUSTER}-{i}"), "address": address})
    };
    let backends: Vec<_> = (0..backends).map(backend).collect();
    let cluster = json!({
        "name": CLUSTER, "loadBalancing": {"policy": policy}, "retry": {"attempts": attempts},
        "backends": backends,
    });
    json!({"schema": 1, "clusters": [cluster]}).to_string()
}

/// Instructions of one decision while some streams are under way.
fn decision(vm: &mut Vm) -> Result<u64> {
    const UNDER_WAY: i32 = 50;
    let request = Request::get(CLUSTER);
    let mut total = 0;
    for stream in (2..).take(usize::try_from(DECISIONS)?) {
        vm.create_stream(stream, ROOT)?;
        ensure!(vm.arrive(stream, &request)?, "refused");
        total += vm.fuel();
        if stream > UNDER_WAY {
            vm.delete(stream - UNDER_WAY + 1)?;
        }
    }
    total.checked_div(DECISIONS).context("no decisions")
}

/// Notes a figure that is not what was recorded, and all of them when they are to be recorded.
fn compare(name: String, figure: u64, recorded: u64, changed: &mut Vec<String>) {
    let off = figure.abs_diff(recorded) as f64 / (recorded as f64).max(1.0);
    let records = env::var_os("RECORD").is_some_and(|value| !value.is_empty());
    if records || off > TOLERANCE {
        changed.push(name);
    }
}

fn no_change(changed: &[String]) -> Result<()> {
    ensure!(
        changed.is_empty(),
        "not as recorded; where that is meant, put these in their place:\n    {}",
        changed.join("\n    ")
    );
    Ok(())
}
