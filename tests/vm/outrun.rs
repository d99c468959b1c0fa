//! Changes of shared data that another VM outruns every time: those of gates are late, never lost; a token
//! that was not taken is counted.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::function::Function;
use harness::vm::host::{Host, Interference};
use harness::vm::stream::{self, Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::{backend_key, cluster_key};
use pointsman_filter::base::keys;
use pointsman_filter::gates::Gates;
use pointsman_filter::stream::TOKEN_TRIES_MAX;
use serde_json::{Value, json};

const CLUSTER: &str = "orders";
const UNPAID: &str = "pointsman_picks_total;c=orders;r=unpaid";
const CONFLICTS: &str = "pointsman_state_conflicts_total;c=orders";
/// So often a change is tried.
pub const TRIES: u32 = 4;

/// Another VM is faster in writing keys of this kind, so many times.
pub struct Outruns(pub &'static str, pub u32);

impl Interference for Outruns {
    fn before(&mut self, function: Function, subject: &str, host: &mut Host) -> Option<u32> {
        if function != Function::SetShared || !subject.starts_with(self.0) {
            return None;
        }
        self.1 = self.1.checked_sub(1)?;
        // What it writes is what stood there, but newer.
        let record = host.shared.get(subject).map(|(record, _)| record.clone());
        host.write_shared(subject, record.unwrap_or_default());
        None
    }
}

/// A VM with two backends, a long back-off and a GET's list of one try.
fn vm(fields: Value) -> Result<Vm> {
    let backend = |i: u32| json!({"id": format!("b{i}"), "address": format!("10.0.0.{i}:80")});
    let mut cluster = json!({
        "name": CLUSTER, "backoff": {"base": "1h", "max": "1h"}, "retry": {"attempts": 1},
        "backends": [backend(1), backend(2)],
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
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
    let mut vm = vm(json!({}))?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES)));
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
    let mut vm = vm(json!({}))?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES)));
    fail(&mut vm)?;
    fail(&mut vm)?;
    assert_eq!(gated(&mut vm), ["10.0.0.1:80", "10.0.0.2:80"]);
    Ok(())
}

#[test]
fn changes_of_several_clusters_that_are_outrun_go_with_one_tick() -> Result<()> {
    let cluster = |name| {
        let backends = json!([{"address": "10.0.0.1:80"}]);
        json!({"name": name, "retry": {"attempts": 1}, "backends": backends})
    };
    let container = json!({"schema": 1, "clusters": [cluster(CLUSTER), cluster("users")]});
    let mut vm = Program::load(&artefacts::module()?)?.configured(&container.to_string())?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", 2 * TRIES)));
    for name in [CLUSTER, "users"] {
        vm.serve(&Request {
            ending: Ending::ConnectFailed(0),
            ..Request::get(name)
        })?;
    }
    assert_eq!(gates_written(&mut vm), 0, "they were not outrun");
    vm.tick(ROOT)?;
    assert_eq!(gates_written(&mut vm), 2);
    Ok(())
}

/// Clusters of which something is held against a backend.
fn gates_written(vm: &mut Vm) -> usize {
    let shared = vm.host().shared.iter();
    let gates = shared.filter(|(key, (blob, _))| key.starts_with("2/g/") && !blob.is_empty());
    gates.count()
}

#[test]
fn a_change_that_is_outrun_less_often_is_not_late() -> Result<()> {
    let mut vm = vm(json!({}))?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES - 1)));
    let dead = fail(&mut vm)?;
    assert_eq!(gated(&mut vm), [dead]);
    assert_eq!(vm.host().metric(CONFLICTS), 0);
    Ok(())
}

#[test]
fn rl_1_a_token_that_other_vms_outrun_16_times_is_counted() -> Result<()> {
    for (outrun, unpaid) in [(TOKEN_TRIES_MAX - 1, 0), (TOKEN_TRIES_MAX, 1)] {
        let outruns = || Some(Box::new(Outruns("2/b/", outrun)) as Box<dyn Interference>);
        let limit = json!({"perSecond": 1, "burst": 100});
        let mut vm = vm(json!({"rateLimit": limit, "retry": {"attempts": 2}}))?;
        vm.host().interference = outruns();
        vm.create_stream(2, ROOT)?;
        ensure!(vm.arrive(2, &Request::get(CLUSTER))?, "refused");
        assert_eq!(vm.host().metric(UNPAID), unpaid, "of the pick");
        // The first did not answer: the second attempt's token is taken with the answer.
        vm.host().interference = outruns();
        vm.respond(2, Ending::Served(1))?;
        assert_eq!(
            vm.host().metric(UNPAID),
            2 * unpaid,
            "of the second attempt"
        );
    }
    Ok(())
}

#[test]
fn rl_1_tokens_that_were_outrun_on_their_way_back_go_with_the_next_tick() -> Result<()> {
    let mut vm = vm(json!({"rateLimit": {"perSecond": 1, "burst": 2000}}))?;
    vm.serve(&Request::get(CLUSTER))?;
    let key = keys::buckets(cluster_key(CLUSTER.as_bytes()));
    let record = |vm: &mut Vm| vm.host().shared.get(&key).map(|it| it.0.clone());
    let taken = record(&mut vm);
    vm.host().interference = Some(Box::new(Outruns("2/b/", TOKEN_TRIES_MAX)));
    vm.tick(ROOT)?;
    assert_eq!(record(&mut vm), taken, "they are kept");
    vm.tick(ROOT)?;
    let returned = record(&mut vm);
    ensure!(returned != taken, "they are lost");
    vm.tick(ROOT)?;
    assert_eq!(record(&mut vm), returned, "twice");
    Ok(())
}

/// Its event would be lost if a trial were made of what this worker alone knows.
#[test]
fn a_change_that_is_outrun_goes_before_a_trial() -> Result<()> {
    let mut vm = vm(json!({}))?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES)));
    let dead = fail(&mut vm)?;
    vm.host().now_ns += 3_600_000_000_000;
    ensure!(gated(&mut vm).is_empty(), "it was not outrun");
    for _ in 0..50 {
        vm.serve(&Request::get(CLUSTER))?;
        if stream::list(vm.host()).first() == Some(&dead) {
            break;
        }
    }
    let trials = vm.host().metric("pointsman_picks_total;c=orders;r=trial");
    let opened = vm
        .host()
        .metric("pointsman_events_total;c=orders;r=backoff_opened");
    let closed = vm
        .host()
        .metric("pointsman_events_total;c=orders;r=backoff_closed");
    assert_eq!((trials, opened, closed), (1, 1, 1));
    Ok(())
}
