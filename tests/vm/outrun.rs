//! Changes of gates that another VM outruns every time: late, never lost.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::function::Function;
use harness::vm::host::{Host, Interference, MISMATCH};
use harness::vm::stream::{self, Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::{backend_key, cluster_key};
use pointsman_filter::base::keys;
use pointsman_filter::gates::Gates;
use serde_json::json;

const CLUSTER: &str = "orders";
const CONFLICTS: &str = "pointsman_state_conflicts_total;c=orders";
/// So often a change is tried.
const TRIES: u32 = 4;

/// Another VM is faster, so many times.
struct Outruns(u32);

impl Interference for Outruns {
    fn before(&mut self, function: Function, subject: &str, _: &mut Host) -> Option<u32> {
        if function != Function::SetShared || !subject.starts_with("2/g/") {
            return None;
        }
        self.0 = self.0.checked_sub(1)?;
        Some(MISMATCH)
    }
}

/// A VM with two backends, a long back-off and a GET's list of one try.
fn vm() -> Result<Vm> {
    let backend = |i: u32| json!({"id": format!("b{i}"), "address": format!("10.0.0.{i}:80")});
    let cluster = json!({
        "name": CLUSTER, "backoff": {"base": "1h", "max": "1h"}, "retry": {"attempts": 1},
        "backends": [backend(1), backend(2)],
    });
    let container = json!({"schema": 1, "clusters": [cluster]});
    Program::load(&artefacts::module()?)?.configured(&container.to_string())
}

/// A request's pick fails to connect; where it went.
fn fail(vm: &mut Vm) -> Result<String> {
    vm.serve(&Request {
        ending: Ending::ConnectFailed(0),
        ..Request::get(CLUSTER)
    })?;
    Ok(stream::list(vm.host()).remove(0))
}

/// The addresses that are gated in shared data.
fn gated(vm: &mut Vm) -> Vec<String> {
    let blob = vm
        .host()
        .shared
        .get(&keys::gates(cluster_key(CLUSTER.as_bytes())));
    let gates = blob
        .map(|(blob, _)| Gates::decode(blob))
        .unwrap_or_default();
    let address = |i: u32| format!("10.0.0.{i}:80");
    let is_gated = |i: &u32| {
        gates
            .of(backend_key(&format!("b{i}"), &address(*i)))
            .is_some()
    };
    (1..=2).filter(is_gated).map(address).collect()
}

#[test]
fn a_change_that_is_outrun_holds_for_its_worker_and_goes_with_the_next_tick() -> Result<()> {
    let mut vm = vm()?;
    vm.host().interference = Some(Box::new(Outruns(TRIES)));
    let dead = fail(&mut vm)?;
    ensure!(gated(&mut vm).is_empty(), "it was not outrun");
    assert_eq!(vm.host().metric(CONFLICTS), 1);
    for _ in 0..50 {
        vm.serve(&Request::get(CLUSTER))?;
        let list = stream::list(vm.host());
        ensure!(!list.contains(&dead), "{dead} is in {list:?}");
    }
    vm.tick(ROOT)?;
    assert_eq!(gated(&mut vm), [dead]);
    assert_eq!(vm.host().metric(CONFLICTS), 1);
    Ok(())
}

#[test]
fn a_change_that_is_outrun_goes_with_the_next_change_of_its_cluster() -> Result<()> {
    let mut vm = vm()?;
    vm.host().interference = Some(Box::new(Outruns(TRIES)));
    fail(&mut vm)?;
    fail(&mut vm)?;
    assert_eq!(gated(&mut vm), ["10.0.0.1:80", "10.0.0.2:80"]);
    Ok(())
}

#[test]
fn a_change_that_is_outrun_less_often_is_not_late() -> Result<()> {
    let mut vm = vm()?;
    vm.host().interference = Some(Box::new(Outruns(TRIES - 1)));
    let dead = fail(&mut vm)?;
    assert_eq!(gated(&mut vm), [dead]);
    assert_eq!(vm.host().metric(CONFLICTS), 0);
    Ok(())
}
