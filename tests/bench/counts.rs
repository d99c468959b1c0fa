//! What does not depend on the machine: host calls per request, VM memory, the module's size.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::stream::{Ending, Request};
use harness::vm::{Program, Vm};
use serde_json::{Map, Value, json};

use crate::contender::{CLUSTER, Case, Extra, Kind};
use crate::cpu;
use crate::profile::Profile;

/// Sizes of registries whose VM is weighed.
const SIZES: [u32; 4] = [3, 100, 1000, 10_000];

/// Host calls and VM memory of every case that has a VM: fills them in.
pub fn fill_in(profile: &Profile, cases: &mut Map<String, Value>) -> Result<()> {
    for case in cpu::cases(profile) {
        let Some(entry) = cases.get_mut(&case.name()) else {
            continue;
        };
        if let Some((calls, bytes)) = count(case)? {
            entry["hostCalls"] = calls;
            entry["vmBytes"] = bytes.into();
        }
    }
    Ok(())
}

/// VM memory by the size of the registry.
pub fn memory() -> Result<Map<String, Value>> {
    let weigh = |backends| {
        let kind = Kind::Pointsman("PowerOfTwo", Extra::None);
        let vm = start(Case { kind, backends })?;
        Ok((backends.to_string(), json!({"bytes": vm.memory()?})))
    };
    SIZES.into_iter().map(weigh).collect()
}

/// Size of the module that ships, bytes.
pub fn module_bytes() -> Result<u64> {
    Ok(fs::metadata(artefacts::module()?)?.len())
}

fn count(case: Case) -> Result<Option<(Value, u64)>> {
    if !matches!(case.kind, Kind::Noop | Kind::Picker | Kind::Pointsman(..)) {
        return Ok(None);
    }
    let mut vm = start(case)?;
    let bytes = vm.memory()?;
    let cookie = format!("POINTSMAN={CLUSTER}-0");
    let mut request = Request::get(CLUSTER);
    match case.kind {
        Kind::Pointsman(_, Extra::Sticky) => request.headers = vec![("cookie", &cookie)],
        Kind::Pointsman(_, Extra::Gated) => {
            vm.serve(&Request {
                ending: Ending::ConnectFailed(0),
                ..request.clone()
            })?;
            ensure!(vm.host().shared_bytes() > 0, "no back-off was opened");
        }
        _ => {}
    }
    // The first request of a VM does more, once.
    vm.serve(&request)?;
    let calls = vm.serve(&request)?;
    let calls = json!({
        "total": calls.total(),
        "request": calls.request, "response": calls.response, "end": calls.end,
    });
    Ok(Some((calls, bytes)))
}

fn start(case: Case) -> Result<Vm> {
    let address = |i: u32| SocketAddr::from(([127, 0, (i >> 8) as u8, i as u8], 10_000));
    let addresses: Vec<SocketAddr> = (1..=case.backends).map(address).collect();
    let container = json!({"schema": 1, "clusters": [case.document(&addresses)]});
    let module = match case.kind {
        Kind::Noop => artefacts::built("noop.wasm")?,
        Kind::Picker => artefacts::built("picker.wasm")?,
        _ => artefacts::module()?,
    };
    Program::load(&module)?.configured(&container.to_string())
}
