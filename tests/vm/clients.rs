//! Streams of clients: what a VM remembers of them, and that it is bounded.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::stream::Request;
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::cluster::clients::CLIENTS_MAX;
use pointsman_filter::fleet::heartbeat::HEARTBEAT_NS;
use serde_json::{Value, json};

const CLUSTER: &str = "orders";
const UNCOUNTED: &str = "pointsman_picks_total;c=orders;r=client_uncounted";

fn vm(limits: Value) -> Result<Vm> {
    let backends = json!([{"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80"}]);
    let cluster = json!({"name": CLUSTER, "backends": backends, "limits": limits});
    let container = json!({"schema": 1, "clusters": [cluster]});
    Program::load(&artefacts::module()?)?.configured(&container.to_string())
}

/// A stream begins, of the client with this address; whether it goes on.
pub fn begin(vm: &mut Vm, stream: i32, client: &str) -> Result<bool> {
    vm.create_stream(stream, ROOT)?;
    vm.arrive(
        stream,
        &Request {
            client,
            ..Request::get(CLUSTER)
        },
    )
}

#[test]
fn rl_10_the_neighbours_of_a_network_are_one_client() -> Result<()> {
    let mut vm = vm(json!({"maxStreamsPerClient": 2}))?;
    ensure!(begin(&mut vm, 2, "[2001:db8::1]:40000")?);
    ensure!(begin(&mut vm, 3, "[2001:db8::ffff:2]:40001")?);
    ensure!(
        !begin(&mut vm, 4, "[2001:db8::3]:40002")?,
        "the third of one /64"
    );
    ensure!(begin(&mut vm, 5, "[2001:db8:0:1::1]:40000")?, "another /64");
    ensure!(begin(&mut vm, 6, "10.0.0.1:40000")? && begin(&mut vm, 7, "10.0.0.1:40000")?);
    ensure!(!begin(&mut vm, 8, "10.0.0.1:40001")?);
    vm.delete(6)?;
    ensure!(begin(&mut vm, 9, "10.0.0.1:40001")?, "one has ended");
    ensure!(
        begin(&mut vm, 10, "/run/client.sock")?,
        "no address, no limit"
    );
    Ok(())
}

/// RL-10: a VM died, and begins again with a request, before its first tick. By then the other worker has
/// been alone for longer than a heartbeat counts.
#[test]
fn rl_10_a_vm_that_begins_with_a_request_knows_the_streams_of_others() -> Result<()> {
    const CLIENT: &str = "10.0.0.1:40000";
    let limits = json!({"maxStreamsPerClient": 2});
    let mut lives = vm(limits.clone())?;
    ensure!(begin(&mut lives, 2, CLIENT)?);
    lives.tick(ROOT)?;
    lives.tick(ROOT)?;
    let mut born = vm(limits.clone())?;
    pass_on(&mut lives, &mut born);
    ensure!(begin(&mut born, 2, CLIENT)?, "the second");
    ensure!(!begin(&mut born, 3, CLIENT)?, "the third");
    born.host().take_calls();
    ensure!(begin(&mut born, 4, "10.0.0.2:40000")?);
    let calls = born.host().take_calls();
    ensure!(
        !calls.contains(&"get_shared_data 2/w".to_owned()),
        "it asks the others once: {calls:?}"
    );
    // A second without a heartbeat, and the other is dead too.
    let mut alone = vm(limits)?;
    pass_on(&mut lives, &mut alone);
    alone.host().now_ns += HEARTBEAT_NS;
    ensure!(begin(&mut alone, 2, CLIENT)? && begin(&mut alone, 3, CLIENT)?);
    ensure!(!begin(&mut alone, 4, CLIENT)?, "its own third");
    Ok(())
}

/// What one VM has written into shared data, another of the same Envoy finds there.
pub fn pass_on(from: &mut Vm, to: &mut Vm) {
    for (key, (record, _)) in from.host().shared.clone() {
        to.host().write_shared(&key, record);
    }
}

/// Ten thousand addresses at a time, and more than are counted: what that needs, beside streams that
/// nobody counts.
#[test]
fn rl_10_ten_thousand_addresses_need_little_and_more_of_them_no_more() -> Result<()> {
    let address = |i: i32| format!("10.{}.{}.{}:40000", i >> 16, (i >> 8) & 255, i & 255);
    let mut memory = Vec::new();
    let over = 1000;
    let counted = i32::try_from(CLIENTS_MAX)?;
    for limits in [json!({}), json!({"maxStreamsPerClient": 1})] {
        let is_limited = limits != json!({});
        let mut vm = vm(limits)?;
        for i in 0..counted + over {
            ensure!(begin(&mut vm, 2 + i, &address(i))?, "{i}");
            if i == 10_000 {
                memory.push(vm.memory()?);
            }
        }
        if is_limited {
            assert_eq!(vm.host().metric(UNCOUNTED), u64::from(over.unsigned_abs()));
            ensure!(
                !begin(&mut vm, 1_000_000, &address(7))?,
                "the known stay known"
            );
        }
        vm.tick(ROOT)?;
        memory.push(vm.memory()?);
        for i in 0..counted + over {
            vm.delete(2 + i)?;
        }
        vm.tick(ROOT)?;
        ensure!(begin(&mut vm, 2_000_000, &address(counted + 7))?);
        let told = if is_limited {
            u64::from(over.unsigned_abs())
        } else {
            0
        };
        assert_eq!(vm.host().metric(UNCOUNTED), told, "there is room again");
    }
    let [plain, plain_all, limited, limited_all] = memory[..] else {
        anyhow::bail!("{memory:?}");
    };
    println!(
        "10,000 streams of 10,000 clients: {plain} bytes, counted {limited}; {} streams and a tick: \
         {plain_all}, counted {limited_all}",
        counted + over
    );
    ensure!(limited - plain <= 2 << 20 && limited_all - plain_all <= 4 << 20);
    Ok(())
}
