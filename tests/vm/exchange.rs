//! The exchange with the sidecar, from the module's side: whose answers count, and what becomes of verdicts
//! that another VM outruns.

use std::mem;

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::vm::function::Function;
use harness::vm::host::{Host, Interference, MISMATCH};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::backend_key;
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::fleet::exchange::{self, Answer, CONTENT_TYPE, ClusterVerdicts, Version};
use pointsman_filter::fleet::verdicts::VerdictState;
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
    let post = vm.host().posts.pop().context("no post")?;
    let headers = [(":status", "200"), ("content-type", CONTENT_TYPE)];
    vm.post_answered(ROOT, post.token, &headers, body.as_bytes())?;
    let next = vm.host().posts.last().context("no next post")?;
    Ok(exchange::Request::parse(&next.body)?.have)
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
