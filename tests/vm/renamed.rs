//! A configuration that gives a known address another id.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::stream::{self, Ending, Request};
use harness::vm::{Program, Vm};
use serde_json::json;

const CLUSTER: &str = "orders";
/// The root of the next configuration.
const NEXT_ROOT: i32 = 2;

/// Two backends by these ids, each of which is left alone for an hour once it fails.
fn container(ids: [&str; 2]) -> String {
    let backend = |(id, host)| json!({"id": id, "address": format!("10.0.0.{host}:80")});
    let cluster = json!({
        "name": CLUSTER, "backoff": {"base": "1h", "max": "1h"}, "retry": {"attempts": 1},
        "backends": ids.into_iter().zip(1..).map(backend).collect::<Vec<_>>(),
    });
    json!({"schema": 1, "clusters": [cluster]}).to_string()
}

fn configure_next(vm: &mut Vm, ids: [&str; 2]) -> Result<()> {
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(ids).as_bytes())?);
    Ok(())
}

#[test]
fn a_renamed_backend_starts_from_the_back_off_of_its_address() -> Result<()> {
    let mut vm = Program::load(&artefacts::module()?)?.configured(&container(["a", "b"]))?;
    let refused = Request {
        ending: Ending::ConnectFailed(0),
        ..Request::get(CLUSTER)
    };
    vm.serve(&refused)?;
    let dead = stream::list(vm.host()).remove(0);
    configure_next(&mut vm, ["x", "y"])?;
    for _ in 0..50 {
        vm.serve_under(NEXT_ROOT, &Request::get(CLUSTER))?;
        let list = stream::list(vm.host());
        ensure!(!list.contains(&dead), "{dead} is in {list:?}");
    }
    Ok(())
}

/// The canary's configuration may still be rejected.
#[test]
fn a_vm_without_a_configuration_before_leaves_the_gates_alone() -> Result<()> {
    let mut vm = Program::load(&artefacts::module()?)?.configured(&container(["a", "b"]))?;
    ensure!(!vm.host().shared.keys().any(|key| key.starts_with("2/g/")));
    let calls = vm.host().take_calls();
    ensure!(
        !calls.iter().any(|call| call.contains("shared_data 2/g")),
        "{calls:?}"
    );
    Ok(())
}
