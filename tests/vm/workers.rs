//! A worker beside others of its Envoy: whose heartbeats count, in which slot each writes its own, and what
//! those tell that are busy, dead or from another release.

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::vm::stream::Request;
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::{ClientKey, LoadKey, cluster_key, load_key};
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::clients::{self, ClientReport};
use pointsman_filter::cluster::load::LoadReport;
use pointsman_filter::fleet::exchange;
use pointsman_filter::fleet::heartbeat::{CLIENTS_MAX, HEARTBEAT_NS, Heartbeat, LOADS_MAX};
use pointsman_filter::fleet::round::REPORTS_PER_TICK;
use serde_json::json;

use crate::clients::begin;

const CLUSTER: &str = "orders";
const CLIENT: &str = "10.0.0.1:40000";
const REVISION: u64 = 7;
const TICK_NS: u64 = 100_000_000;
/// The other worker's VM.
const OTHER: u64 = 77;
const DRAINED: &str = "pointsman_events_total;c=orders;r=backend_drained";
/// The root of the next configuration.
const NEXT_ROOT: i32 = 900;

/// A container of one cluster with these backends, whose clients may have two streams each.
fn container(backends: &[u32]) -> String {
    container_with(backends, 2)
}

fn container_with(backends: &[u32], streams_max: u32) -> String {
    let backend = |i: &u32| json!({"id": format!("b{i}"), "address": address(*i)});
    let backends: Vec<_> = backends.iter().map(backend).collect();
    let limits = json!({"maxStreamsPerClient": streams_max});
    let cluster = json!({"name": CLUSTER, "limits": limits, "backends": backends});
    let exchange = json!({"cluster": "pointsman_sidecar"});
    let revision = format!("{REVISION:016x}");
    json!({"schema": 1, "revision": revision, "exchange": exchange, "clusters": [cluster]})
        .to_string()
}

fn address(backend: u32) -> String {
    format!("10.0.1.{backend}:80")
}

fn vm() -> Result<Vm> {
    Program::load(&artefacts::module()?)?.configured(&container(&[1, 2]))
}

/// Another worker's heartbeat, which was written a while ago.
fn other(vm: &mut Vm, ago_ns: u64) -> Heartbeat {
    Heartbeat {
        vm: OTHER,
        at: WallTime::from_ns(vm.host().now_ns - ago_ns),
        revision: REVISION,
        holds_leaving: true,
        ..Heartbeat::default()
    }
}

fn write(vm: &mut Vm, slot: u32, heartbeat: &Heartbeat, told: &Heartbeat) {
    vm.host()
        .write_shared(&keys::heartbeat(slot), heartbeat.encode());
    vm.host().write_shared(&keys::told(slot), told.encode());
}

/// Two streams of the client.
fn with_client(heartbeat: Heartbeat) -> Result<Heartbeat> {
    let key = clients::key(cluster_key(CLUSTER.as_bytes()), CLIENT.as_bytes());
    let key = key.context("no key")?;
    Ok(Heartbeat {
        clients: vec![ClientReport { key, streams: 2 }],
        ..heartbeat
    })
}

/// Whose heartbeat stands in a slot.
fn stands(vm: &mut Vm, slot: u32) -> Option<u64> {
    let (record, _) = vm.host().shared.get(&keys::heartbeat(slot))?;
    Heartbeat::decode(record).map(|heartbeat| heartbeat.vm)
}

#[test]
fn rl_10_a_worker_does_not_count_its_own_streams_twice() -> Result<()> {
    let mut vm = vm()?;
    ensure!(begin(&mut vm, 2, CLIENT)?);
    for _ in 0..3 {
        vm.tick(ROOT)?;
    }
    ensure!(begin(&mut vm, 3, CLIENT)?, "the second");
    ensure!(!begin(&mut vm, 4, CLIENT)?, "the third");
    Ok(())
}

/// The main thread's VM, and the one in which Envoy tries a configuration.
#[test]
fn a_vm_that_serves_no_request_is_no_worker() -> Result<()> {
    for serves in [false, true] {
        let mut vm = vm()?;
        if serves {
            vm.serve(&Request::get(CLUSTER))?;
        }
        vm.tick(ROOT)?;
        assert_eq!(stands(&mut vm, 0).is_some(), serves);
    }
    Ok(())
}

/// Five streams of a client could be two with each of three workers.
#[test]
fn rl_10_the_more_workers_there_are_the_sooner_a_client_is_told_of() -> Result<()> {
    for has_other in [false, true] {
        let program = Program::load(&artefacts::module()?)?;
        let mut vm = program.configured(&container_with(&[1, 2], 5))?;
        ensure!(begin(&mut vm, 2, CLIENT)? && begin(&mut vm, 3, CLIENT)?);
        vm.tick(ROOT)?;
        if has_other {
            let other = other(&mut vm, 0);
            write(&mut vm, 1, &other, &other);
        }
        // The other is counted with one tick, and what follows from it told with the next.
        vm.tick(ROOT)?;
        vm.tick(ROOT)?;
        let told = vm
            .host()
            .shared
            .get(&keys::told(0))
            .context("it tells nothing")?;
        let told = Heartbeat::decode(&told.0).context("it tells nothing")?;
        assert_eq!(told.clients.len(), usize::from(has_other));
    }
    Ok(())
}

/// One that others run already was there before it.
#[test]
fn ad_20_a_rejection_is_forgotten_with_a_configuration_that_nobody_runs_yet() -> Result<()> {
    for (revision, is_forgotten) in [(REVISION, false), (REVISION + 1, true)] {
        let mut vm = vm()?;
        vm.host().write_shared(keys::REJECTED, b"why".to_vec());
        let heartbeat = Heartbeat {
            revision,
            ..other(&mut vm, 0)
        };
        write(&mut vm, 0, &heartbeat, &heartbeat);
        vm.create_root(NEXT_ROOT)?;
        ensure!(vm.configure(NEXT_ROOT, container(&[1, 2]).as_bytes())?);
        let (rejected, _) = vm.host().shared.get(keys::REJECTED).context("no record")?;
        assert_eq!(rejected.is_empty(), is_forgotten);
    }
    Ok(())
}

#[test]
fn a_worker_whose_slot_was_taken_takes_another() -> Result<()> {
    let mut vm = vm()?;
    vm.serve(&Request::get(CLUSTER))?;
    vm.tick(ROOT)?;
    let own = stands(&mut vm, 0).context("no heartbeat")?;
    let other = other(&mut vm, 0);
    write(&mut vm, 0, &other, &other);
    vm.tick(ROOT)?;
    assert_eq!(
        (stands(&mut vm, 0), stands(&mut vm, 1)),
        (Some(OTHER), Some(own))
    );
    Ok(())
}

/// After a pause of its own, or a step of the clock, a worker cannot tell who is dead.
#[test]
fn a_dead_workers_slot_is_taken_once_its_death_is_certain() -> Result<()> {
    for (is_certain, slot) in [(true, 0), (false, 1)] {
        let mut vm = vm()?;
        vm.tick(ROOT)?;
        if !is_certain {
            vm.host().now_ns += 2 * HEARTBEAT_NS;
        }
        let dead = other(&mut vm, HEARTBEAT_NS);
        write(&mut vm, 0, &dead, &dead);
        vm.serve(&Request::get(CLUSTER))?;
        vm.tick(ROOT)?;
        let stand = stands(&mut vm, slot);
        ensure!(stand.is_some_and(|it| it != OTHER), "{slot}: {stand:?}");
    }
    Ok(())
}

/// The one that has the slot now has told nothing yet.
#[test]
fn rl_10_what_a_slots_last_owner_told_does_not_count() -> Result<()> {
    for (owner, counts) in [(OTHER, true), (OTHER + 1, false)] {
        let mut vm = vm()?;
        let heartbeat = Heartbeat {
            vm: owner,
            ..other(&mut vm, 0)
        };
        let told = with_client(other(&mut vm, 0))?;
        write(&mut vm, 0, &heartbeat, &told);
        assert_eq!(begin(&mut vm, 2, CLIENT)?, !counts);
    }
    Ok(())
}

#[test]
fn rl_10_a_heartbeat_that_cannot_be_read_hides_no_other() -> Result<()> {
    let mut vm = vm()?;
    vm.host()
        .write_shared(&keys::heartbeat(0), b"newer".to_vec());
    let heartbeat = other(&mut vm, 0);
    let told = with_client(heartbeat.clone())?;
    write(&mut vm, 1, &heartbeat, &told);
    ensure!(!begin(&mut vm, 2, CLIENT)?, "the other's two are not known");
    Ok(())
}

#[test]
fn a_tick_reads_so_many_reports_and_the_next_one_the_rest() -> Result<()> {
    let load = |i: usize| LoadReport {
        key: LoadKey(u64::try_from(i).unwrap_or(0)),
        in_flight: 1,
        estimate_ns: 0,
        average: None,
    };
    let client = |i: usize| ClientReport {
        key: ClientKey(u64::try_from(i).unwrap_or(0)),
        streams: 1,
    };
    let loads: Vec<LoadReport> = (0..LOADS_MAX).map(load).collect();
    let clients: Vec<ClientReport> = (0..CLIENTS_MAX).map(client).collect();
    for (loads, clients) in [(loads, Vec::new()), (Vec::new(), clients)] {
        let each = loads.len() + clients.len();
        let workers = REPORTS_PER_TICK / each + 2;
        let mut vm = vm()?;
        for slot in 0..u32::try_from(workers)? {
            let heartbeat = Heartbeat {
                vm: OTHER + u64::from(slot),
                ..other(&mut vm, 0)
            };
            let told = Heartbeat {
                loads: loads.clone(),
                clients: clients.clone(),
                ..heartbeat.clone()
            };
            write(&mut vm, slot, &heartbeat, &told);
        }
        let mut read = Vec::new();
        for _ in 0..2 {
            vm.host().take_calls();
            vm.tick(ROOT)?;
            let calls = vm.host().take_calls().into_iter();
            read.push(calls.filter(|call| call == "get_shared_data 2/t").count());
        }
        assert_eq!(read, [workers - 2, 2]);
    }
    Ok(())
}

/// A worker is configured anew, without the first backend, and ticks beside another that says this; whether
/// it says that the backend has drained.
fn drains(tick_ns: u64, heartbeat: impl Fn(&mut Vm) -> (Heartbeat, Heartbeat)) -> Result<bool> {
    let mut vm = vm()?;
    vm.serve(&Request::get(CLUSTER))?;
    vm.tick(ROOT)?;
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(&[2]).as_bytes())?);
    for _ in 0..15 {
        vm.host().now_ns += tick_ns;
        let (heartbeat, told) = heartbeat(&mut vm);
        write(&mut vm, 1, &heartbeat, &told);
        vm.tick(NEXT_ROOT)?;
    }
    Ok(vm.host().metric(DRAINED) > 0)
}

/// A worker's streams at the backend that leaves.
fn with_streams(in_flight: u32, heartbeat: Heartbeat) -> Heartbeat {
    let load = LoadReport {
        key: load_key(cluster_key(CLUSTER.as_bytes()), &address(1)),
        in_flight,
        estimate_ns: 0,
        average: None,
    };
    Heartbeat {
        loads: vec![load],
        ..heartbeat
    }
}

#[test]
fn rg_19_nobody_has_drained_while_a_worker_tells_less_than_all_that_leave() -> Result<()> {
    for holds_leaving in [true, false] {
        let drained = drains(TICK_NS, |vm| {
            let heartbeat = other(vm, 0);
            let told = Heartbeat {
                holds_leaving,
                ..heartbeat.clone()
            };
            (heartbeat, told)
        })?;
        assert_eq!(drained, holds_leaving);
    }
    Ok(())
}

/// Nobody waits for one that lives on for a stream alone; that stream counts.
#[test]
fn rg_19_a_worker_left_behind_and_too_busy_to_write_has_the_streams_that_it_told_of() -> Result<()>
{
    for (in_flight, has_drained) in [(0, true), (1, false)] {
        let drained = drains(TICK_NS, |vm| {
            let busy = Heartbeat {
                revision: REVISION + 1,
                ..other(vm, 2 * HEARTBEAT_NS)
            };
            (busy.clone(), with_streams(in_flight, busy))
        })?;
        assert_eq!(drained, has_drained);
    }
    Ok(())
}

/// After each step of the clock all heartbeats may be old.
#[test]
fn rg_19_nobody_has_drained_while_the_clock_steps() -> Result<()> {
    for (tick_ns, has_drained) in [(TICK_NS, true), (HEARTBEAT_NS + 1, false)] {
        let drained = drains(tick_ns, |vm| {
            let live = other(vm, 0);
            (live.clone(), live)
        })?;
        assert_eq!(drained, has_drained);
    }
    Ok(())
}

/// It lives on for a stream alone.
#[test]
fn a_post_does_not_name_the_revision_of_a_worker_left_behind() -> Result<()> {
    for (picks, named) in [(true, vec![REVISION + 1]), (false, Vec::new())] {
        let mut vm = vm()?;
        let heartbeat = other(&mut vm, 0);
        let heartbeat = Heartbeat {
            revision: REVISION + 1,
            picked_at: if picks {
                heartbeat.at
            } else {
                heartbeat.picked_at
            },
            ..heartbeat
        };
        write(&mut vm, 0, &heartbeat, &heartbeat);
        vm.tick(ROOT)?;
        let post = vm.host().posts.pop().context("no post")?;
        let posted = exchange::Request::parse(&post.body)?;
        assert_eq!(posted.revisions, named);
    }
    Ok(())
}
