//! What must not grow with time in a VM: its memory, its keys in shared data, its metrics, its log.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::stream::{Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use serde_json::json;

const CLUSTER: &str = "orders";
const BACKENDS: u32 = 20;
const SECOND_NS: u64 = 1_000_000_000;
/// What is held against a backend that is gone is kept for ten minutes: for 20 configurations here.
const BETWEEN_NS: u64 = 30 * SECOND_NS;
/// Ticks of each configuration, and what passes before each.
const TICKS: u32 = 6;
const TICK_NS: u64 = SECOND_NS / 10;
/// After so many configurations a VM has all the memory that it needs.
const WARM: u32 = 200;
const CONFIGURATIONS: u32 = 2000;
/// Above what one cluster and the filter have when everything that can happen has happened; a metric is
/// only made when it does. One per backend or configuration would be thousands.
const METRICS_MAX: usize = 30;
const OUTAGE_REQUESTS: u32 = 5000;

/// Backends as pods are: each configuration has one new address, and lacks the oldest.
fn configuration(nth: u32) -> String {
    let backend = |i: u32| {
        let address = format!("10.{}.{}.{}:80", i >> 16, (i >> 8) & 255, i & 255);
        json!({"id": format!("pod-{i}"), "address": address})
    };
    let backends: Vec<_> = (nth..nth + BACKENDS).map(backend).collect();
    let cluster = json!({"name": CLUSTER, "backends": backends});
    json!({"schema": 1, "revision": format!("{nth:016x}"), "clusters": [cluster]}).to_string()
}

/// Memory in bytes, keys of shared data.
fn sizes(vm: &mut Vm) -> Result<(u64, usize)> {
    Ok((vm.memory()?, vm.host().shared.len()))
}

#[test]
fn two_thousand_configurations_need_no_more_than_two_hundred() -> Result<()> {
    let mut vm = Program::load(&artefacts::module()?)?.configured(&configuration(0))?;
    let mut root = ROOT;
    let mut warm = None;
    // The first entry refuses: a gate is opened for a backend that is gone soon.
    let failed_over = Request {
        ending: Ending::Served(1),
        ..Request::get(CLUSTER)
    };
    for nth in 1..=CONFIGURATIONS {
        let next = i32::try_from(100 + nth)?;
        vm.create_root(next)?;
        let taken = vm.configure(next, configuration(nth).as_bytes())?;
        ensure!(taken, "configuration {nth}: {:?}", vm.host().log);
        vm.serve_under(next, &failed_over)?;
        vm.host().now_ns += BETWEEN_NS;
        // After such a pause a VM waits until all others have written a heartbeat.
        for _ in 0..TICKS {
            vm.host().now_ns += TICK_NS;
            vm.tick(next)?;
        }
        vm.delete(root)?;
        root = next;
        vm.host().log.clear();
        if nth == WARM {
            warm = Some(sizes(&mut vm)?);
        }
    }
    let end = sizes(&mut vm)?;
    let metrics = vm.host().metrics.len();
    println!("bytes, keys after {WARM} and {CONFIGURATIONS}: {warm:?}, {end:?}; {metrics} metrics");
    assert_eq!(warm, Some(end));
    ensure!(metrics <= METRICS_MAX, "{:?}", vm.host().metrics);
    Ok(())
}

#[test]
fn an_outage_is_logged_by_its_edges_and_not_by_its_requests() -> Result<()> {
    let mut vm = Program::load(&artefacts::module()?)?.configured(&configuration(0))?;
    let mut answered = 0;
    for _ in 0..OUTAGE_REQUESTS {
        vm.host().now_ns += SECOND_NS / 100;
        let all_refuse = Request {
            ending: Ending::ConnectFailed(0),
            ..Request::get(CLUSTER)
        };
        vm.serve(&all_refuse)?;
        answered += usize::from(vm.host().local_answer.is_some());
    }
    let lines = vm.host().log.len();
    println!("{OUTAGE_REQUESTS} requests in 50 s of outage, {answered} refused: {lines} lines");
    ensure!(
        answered > 1000,
        "only {answered} were refused by the filter"
    );
    // A window of each backend opens about every time that the one before has doubled.
    ensure!(lines <= 20 * usize::try_from(BACKENDS)?, "{lines} lines");
    Ok(())
}
