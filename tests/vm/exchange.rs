//! The exchange with the sidecar, from the module's side: whose answers count, and what becomes of verdicts
//! that another VM outruns.

use std::mem;

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::vm::function::Function;
use harness::vm::host::{Host, Interference, MISMATCH};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::{backend_key, cluster_key};
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::fleet::exchange::{self, Answer, CONTENT_TYPE, ClusterVerdicts, Version};
use pointsman_filter::fleet::verdicts::VerdictState;
use pointsman_filter::gates::Gates;
use serde_json::json;

use crate::outrun::{Outruns, TRIES};

const CLUSTER: &str = "orders";
const DONE: &str = "pointsman_exchanges_total;r=done";
const FAILED: &str = "pointsman_exchanges_total;r=failed";
/// The root of the next configuration.
const NEXT_ROOT: i32 = 2;

fn container(has_sidecar: bool) -> String {
    let backends = json!([{"id": "b1", "address": "10.0.0.1:80"}]);
    let clusters = json!([{"name": CLUSTER, "backends": backends}]);
    let mut container = json!({"schema": 1, "clusters": clusters});
    if has_sidecar {
        container["exchange"] = json!({"cluster": "pointsman_sidecar"});
    }
    container.to_string()
}

fn vm() -> Result<Vm> {
    Program::load(&artefacts::module()?)?.configured(&container(true))
}

fn version(counter: u64) -> Version {
    Version {
        epoch: 1,
        counter,
        revision: 0,
    }
}

/// The verdict on the only backend.
fn verdict(counter: u64, full: bool, is_healthy: bool) -> String {
    let key = backend_key("b1", "10.0.0.1:80");
    let keys = |wanted| if wanted { vec![key] } else { Vec::new() };
    let verdicts = ClusterVerdicts {
        name: CLUSTER.to_owned(),
        unhealthy: keys(!is_healthy),
        healthy: keys(is_healthy && !full),
    };
    let answer = Answer {
        version: version(counter),
        full,
        clusters: vec![verdicts],
        hand_back: false,
    };
    answer.to_json()
}

/// The post under way is answered; which verdicts the next one has.
fn answer(vm: &mut Vm, body: &str) -> Result<Version> {
    answer_to(vm, ROOT, body)?;
    have(vm)
}

fn answer_to(vm: &mut Vm, root: i32, body: &str) -> Result<()> {
    let post = vm.host().posts.pop().context("no post")?;
    let headers = [(":status", "200"), ("content-type", CONTENT_TYPE)];
    vm.post_answered(root, post.token, &headers, body.as_bytes())
}

/// Which verdicts the post under way has.
fn have(vm: &mut Vm) -> Result<Version> {
    let post = vm.host().posts.last().context("no post")?;
    Ok(exchange::Request::parse(&post.body)?.have)
}

/// Whether the only backend is held to be unhealthy.
fn is_unhealthy(vm: &mut Vm) -> bool {
    let key = keys::gates(cluster_key(CLUSTER.as_bytes()));
    let gates = vm.host().shared.get(&key);
    gates.is_some_and(|(blob, _)| !Gates::decode(blob).unhealthy().is_empty())
}

#[test]
fn only_an_answer_of_our_content_type_counts() -> Result<()> {
    for (content_type, counts) in [(CONTENT_TYPE, [1, 0]), ("application/json", [0, 1])] {
        let mut vm = vm()?;
        vm.tick(ROOT)?;
        let post = vm.host().posts.pop().context("no post")?;
        let headers = [(":status", "200"), ("content-type", content_type)];
        let body = verdict(1, true, true);
        vm.post_answered(ROOT, post.token, &headers, body.as_bytes())?;
        assert_eq!([DONE, FAILED].map(|name| vm.host().metric(name)), counts);
    }
    Ok(())
}

#[test]
fn a_verdict_that_is_outrun_is_asked_for_again() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    assert_eq!(answer(&mut vm, &verdict(1, true, true))?, version(1));
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES)));
    assert_eq!(answer(&mut vm, &verdict(2, false, false))?, version(1));
    assert_eq!(answer(&mut vm, &verdict(2, false, false))?, version(2));
    Ok(())
}

/// Another VM says, while the gates are changed, that its own verdicts stand: once.
struct Meddles {
    has_meddled: bool,
}

impl Interference for Meddles {
    fn before(&mut self, function: Function, subject: &str, host: &mut Host) -> Option<u32> {
        if function != Function::SetShared
            || subject != keys::VERDICTS
            || mem::replace(&mut self.has_meddled, true)
        {
            return None;
        }
        let theirs = VerdictState {
            version: version(9),
            at: WallTime::from_ns(host.now_ns),
        };
        host.write_shared(keys::VERDICTS, theirs.encode());
        Some(MISMATCH)
    }
}

#[test]
fn where_two_vms_write_verdicts_all_are_asked_for() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    assert_eq!(answer(&mut vm, &verdict(1, true, true))?, version(1));
    vm.host().interference = Some(Box::new(Meddles { has_meddled: false }));
    assert_eq!(
        answer(&mut vm, &verdict(2, false, false))?,
        Version::default()
    );
    Ok(())
}

/// It asks for the full set first: none that it had before is one.
#[test]
fn a_new_root_whose_full_set_was_outrun_asks_for_it_again() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    assert_eq!(answer(&mut vm, &verdict(1, true, true))?, version(1));
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(true).as_bytes())?);
    vm.host().posts.clear();
    vm.tick(NEXT_ROOT)?;
    vm.host().interference = Some(Box::new(Outruns("2/g/", TRIES)));
    answer_to(&mut vm, NEXT_ROOT, &verdict(2, true, false))?;
    assert_eq!(have(&mut vm)?, Version::default());
    Ok(())
}

#[test]
fn a_full_set_makes_healthy_whom_it_does_not_name() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    answer(&mut vm, &verdict(1, true, false))?;
    ensure!(is_unhealthy(&mut vm));
    let nobody = Answer {
        version: version(2),
        full: true,
        ..Answer::default()
    };
    answer(&mut vm, &nobody.to_json())?;
    ensure!(!is_unhealthy(&mut vm));
    Ok(())
}

#[test]
fn a_sidecar_that_asks_for_verdicts_changes_none() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    answer(&mut vm, &verdict(1, true, false))?;
    let asks = Answer {
        hand_back: true,
        ..Answer::default()
    };
    assert_eq!(answer(&mut vm, &asks.to_json())?, version(1));
    ensure!(is_unhealthy(&mut vm));
    Ok(())
}

/// HC-23: a silence is one of the sidecar, not of the clock.
#[test]
fn hc_23_verdicts_do_not_run_out_because_the_clock_steps() -> Result<()> {
    for (seconds, holds) in [(10, true), (3600, true), (31, false)] {
        let mut vm = vm()?;
        vm.tick(ROOT)?;
        answer(&mut vm, &verdict(1, true, false))?;
        // A step is more than passes between two ticks.
        let tick_s = if seconds == 3600 { seconds } else { 1 };
        for _ in 0..seconds / tick_s {
            vm.host().now_ns += tick_s * 1_000_000_000;
            vm.tick(ROOT)?;
        }
        assert_eq!(is_unhealthy(&mut vm), holds, "{seconds} s");
    }
    Ok(())
}

#[test]
fn a_root_that_is_not_in_charge_posts_no_more_when_its_post_is_answered() -> Result<()> {
    let mut vm = vm()?;
    vm.tick(ROOT)?;
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(true).as_bytes())?);
    answer_to(&mut vm, ROOT, &verdict(1, true, true))?;
    ensure!(vm.host().posts.is_empty(), "the old root posts");
    Ok(())
}

/// A listener's update configures its `default_config` again, behind the sidecar's configuration.
#[test]
fn a_root_without_a_sidecar_does_not_end_the_exchange() -> Result<()> {
    for has_sidecar in [true, false] {
        let mut vm = vm()?;
        vm.create_root(NEXT_ROOT)?;
        ensure!(vm.configure(NEXT_ROOT, container(has_sidecar).as_bytes())?);
        vm.tick(NEXT_ROOT)?;
        assert_eq!(vm.host().posts.len(), usize::from(has_sidecar));
        vm.tick(ROOT)?;
        assert_eq!(vm.host().posts.len(), 1, "one of both posts");
    }
    Ok(())
}
