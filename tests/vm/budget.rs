//! What the module costs, in figures that are the same on every machine: instructions of the
//! interpreter, bytes of its memory, bytes of its file.
//!
//! The interpreter counts a function, a loop's round or a branch of an `if` whole when it is entered, with
//! what a jump passes over. So a figure also rises with inlined code that is hardly ever run.
//!
//! A figure that changes by more than 3 % is a deliberate edit: `make test-vm RECORD=1` prints the
//! table to put here.

mod bodies;
mod limits;

use std::ops::Range;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use harness::artefacts::{self, MODULE_BYTES_MAX};
use harness::vm::stream::{Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash;
use pointsman_filter::config::CLUSTERS_MAX;
use pointsman_filter::fleet::exchange::CONTENT_TYPE;
use serde_json::json;
use wasmparser::{KnownCustom, Name, Parser, Payload};

const CLUSTER: &str = "orders";
const TOLERANCE: f64 = 0.03;
/// Decisions of which a figure is the mean.
const DECISIONS: u64 = 200;

/// Instructions of one decision, from the request's headers to the list: policy, backends, attempts
/// (1 is a pick, 4 is a list).
const DECISION: [(&str, u32, u32, u64); 18] = [
    ("PowerOfTwo", 3, 1, 9040),
    ("PowerOfTwo", 3, 4, 12900),
    ("PowerOfTwo", 1000, 1, 9009),
    ("PowerOfTwo", 1000, 4, 14301),
    ("RoundRobin", 1000, 1, 8663),
    ("RoundRobin", 1000, 4, 14075),
    ("Random", 1000, 1, 8688),
    ("Random", 1000, 4, 13817),
    ("LeastLoaded", 3, 1, 10097),
    ("LeastLoaded", 1000, 1, 379002),
    ("LeastLoaded", 1000, 4, 782184),
    ("Tiered", 3, 1, 10120),
    ("Tiered", 1000, 1, 238100),
    ("Tiered", 1000, 4, 1048598),
    ("Rendezvous", 3, 1, 11092),
    ("Rendezvous", 256, 4, 197156),
    ("Maglev", 1000, 1, 9747),
    ("Maglev", 1000, 4, 15182),
];
/// Instructions while 5,000 of 10,000 backends are unhealthy: attempts, the decision, and the response
/// after every one of them failed to connect, in the mean.
const GATED: [(u32, u64, u64); 2] = [(1, 17_513, 57_081), (4, 42_222, 141_643)];
/// Instructions to take a configuration over in clusters of 100 backends: backends, the first, and the
/// next, in which one cluster has changed.
const CONFIGURATION: [(u32, u64, u64); 2] = [
    (1000, 38_936_727, 4_137_211),
    (10_000, 389_398_183, 6_853_181),
];
/// Linear memory after these.
const MEMORY: [u64; 2] = [1_572_864, 4_653_056];
/// Instructions to take over as many clusters as there may be, of one backend each, and then to take
/// them over when every one of them has changed.
const ALL_CHANGED: (u64, u64) = (989_026_933, 1_028_498_037);
/// The root that takes the second configuration over, while the first lives.
const NEXT_ROOT: i32 = 3;

#[test]
fn a_decision_takes_as_many_instructions_as_recorded() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    let mut changed = Vec::new();
    for (policy, backends, attempts, recorded) in DECISION {
        let mut vm = program.configured(&configuration(policy, backends, attempts))?;
        // The first one reads what other workers tell, and makes Maglev's table.
        vm.serve(&Request::get(CLUSTER))?;
        let figure = decision(&mut vm)?;
        let name = format!("(\"{policy}\", {backends}, {attempts}, {figure}),");
        compare(name, figure, recorded, &mut changed);
    }
    no_change(&changed)
}

#[test]
fn a_request_beside_many_gates_takes_as_many_instructions_as_recorded() -> Result<()> {
    const REQUESTS: i32 = 200;
    let program = Program::load(&artefacts::module()?)?;
    let mut changed = Vec::new();
    for (attempts, recorded_pick, recorded_failure) in GATED {
        let configuration = configuration("PowerOfTwo", 10_000, attempts);
        let mut vm = program.configured(&configuration)?;
        condemn_half(&mut vm, 10_000)?;
        let (mut picks, mut failures) = (0, 0);
        for stream in 2..2 + REQUESTS {
            vm.create_stream(stream, ROOT)?;
            ensure!(vm.arrive(stream, &Request::get(CLUSTER))?, "refused");
            picks += vm.fuel();
            vm.respond(stream, Ending::ConnectFailed(u64::from(attempts) - 1))?;
            failures += vm.fuel();
        }
        let (pick, failure) = (picks / REQUESTS as u64, failures / REQUESTS as u64);
        let name = format!("({attempts}, {pick}, {failure}),");
        compare(name.clone(), pick, recorded_pick, &mut changed);
        compare(name, failure, recorded_failure, &mut changed);
    }
    no_change(&changed)
}

/// The sidecar finds every other backend unhealthy.
fn condemn_half(vm: &mut Vm, backends: u32) -> Result<()> {
    vm.tick(ROOT)?;
    let post = vm.host().posts.pop().context("no post on the tick")?;
    let key = |i| hash::hex(hash::backend_key(&format!("{CLUSTER}-{i}"), &address(i)).0);
    let unhealthy: Vec<String> = (0..backends).step_by(2).map(key).collect();
    let answer = json!({
        "version": {"epoch": "0000000000000001", "counter": 1, "revision": "0000000000000000"},
        "full": true,
        "clusters": [{"name": CLUSTER, "unhealthy": unhealthy, "healthy": []}],
    });
    let headers = [(":status", "200"), ("content-type", CONTENT_TYPE)];
    vm.post_answered(ROOT, post.token, &headers, answer.to_string().as_bytes())?;
    ensure!(vm.host().shared_bytes() > 100_000, "nobody is gated");
    Ok(())
}

#[test]
fn a_configuration_takes_as_many_instructions_and_bytes_as_recorded() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    let mut changed = Vec::new();
    for ((backends, recorded, recorded_next), recorded_memory) in CONFIGURATION.iter().zip(MEMORY) {
        let all = |changed| clusters(*backends, 100, changed);
        let mut vm = program.configured(&all(0..0))?;
        let first = vm.fuel();
        let next = next_configuration(&mut vm, &all(0..1))?;
        let memory = vm.memory()?;
        let name = format!("({backends}, {first}, {next}), {memory}");
        compare(name.clone(), first, *recorded, &mut changed);
        compare(name.clone(), next, *recorded_next, &mut changed);
        compare(name, memory, recorded_memory, &mut changed);
    }
    no_change(&changed)
}

/// A document that has changed is looked for among all that there were.
#[test]
fn clusters_that_all_change_take_as_many_instructions_as_recorded() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    let count = u32::try_from(CLUSTERS_MAX)?;
    let mut vm = program.configured(&clusters(count, 1, 0..0))?;
    let first = vm.fuel();
    let next = next_configuration(&mut vm, &clusters(count, 1, 0..count))?;
    let mut changed = Vec::new();
    let name = format!("({first}, {next})");
    compare(name.clone(), first, ALL_CHANGED.0, &mut changed);
    compare(name, next, ALL_CHANGED.1, &mut changed);
    no_change(&changed)
}

/// Instructions to take over the second configuration.
fn next_configuration(vm: &mut Vm, configuration: &str) -> Result<u64> {
    vm.create_root(NEXT_ROOT)?;
    let taken = vm.configure(NEXT_ROOT, configuration.as_bytes())?;
    ensure!(taken, "{:?}", vm.host().log);
    Ok(vm.fuel())
}

/// A container of so many backends in clusters of this size, of which some have another weight.
fn clusters(backends: u32, size: u16, changed: Range<u32>) -> String {
    let backend = |i, weight| json!({"address": address(i), "weight": weight});
    let cluster = |first: u32| {
        let weight = if changed.contains(&first) { 99 } else { 100 };
        let backends = (first..first + u32::from(size)).map(|i| backend(i, weight));
        json!({"name": format!("c{first}"), "backends": backends.collect::<Vec<_>>()})
    };
    let firsts = (0..backends).step_by(size.into());
    let clusters: Vec<_> = firsts.map(cluster).collect();
    let exchange = json!({"cluster": "pointsman_sidecar", "verdictTtl": "30s"});
    json!({"schema": 1, "exchange": exchange, "clusters": clusters}).to_string()
}

/// Maglev's table is made where a request asks for it, and nowhere else: not in a VM in which Envoy only
/// tries a configuration, and not on ticks.
#[test]
fn lb_11_a_table_costs_nothing_before_the_first_request_and_little_then() -> Result<()> {
    const BACKENDS: u32 = 10_000;
    const TABLE_MAX: u64 = 1_000_000;
    let program = Program::load(&artefacts::module()?)?;
    let mut plain = program.configured(&configuration("Random", BACKENDS, 3))?;
    let mut vm = program.configured(&configuration("Maglev", BACKENDS, 3))?;
    for vm in [&mut plain, &mut vm] {
        for _ in 0..3 {
            vm.tick(ROOT)?;
        }
    }
    assert_eq!(
        vm.memory()?,
        plain.memory()?,
        "a table that nobody asked for"
    );
    let before = vm.memory()?;
    vm.create_stream(2, ROOT)?;
    ensure!(vm.arrive(2, &Request::get(CLUSTER))?, "refused");
    let (made, grown) = (vm.fuel(), vm.memory()? - before);
    vm.create_stream(3, ROOT)?;
    ensure!(vm.arrive(3, &Request::get(CLUSTER))?, "refused");
    let next = vm.fuel();
    println!("a table for {BACKENDS}: {made} instructions, {grown} bytes more; a pick: {next}");
    ensure!(grown <= TABLE_MAX, "{grown} bytes");
    ensure!(made > 50 * next && made < 60_000_000, "{made} instructions");
    Ok(())
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
        name.rsplit_once("::h").is_some_and(|(_, hash)| {
            hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
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
    let backend = |i| json!({"id": format!("{CLUSTER}-{i}"), "address": address(i)});
    let backends: Vec<_> = (0..backends).map(backend).collect();
    let cluster = json!({
        "name": CLUSTER, "loadBalancing": {"policy": policy}, "retry": {"attempts": attempts},
        "backends": backends,
    });
    let exchange = json!({"cluster": "pointsman_sidecar", "verdictTtl": "30s"});
    json!({"schema": 1, "exchange": exchange, "clusters": [cluster]}).to_string()
}

fn address(i: u32) -> String {
    format!("10.0.{}.{}:80", i >> 8, i & 255)
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
