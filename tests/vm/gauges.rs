//! The gauges of the clusters, which are the whole Envoy's: a worker that gets the lease sets them as they
//! are now, whatever the one before it left.

use anyhow::{Result, ensure};
use harness::artefacts;
use harness::vm::stream::{Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::hash::cluster_key;
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::fleet::lease::{LEASE_NS, Lease};
use serde_json::{Value, json};

const CLUSTER: &str = "orders";
const AVAILABLE: &str = "pointsman_available_backends;c=orders";
/// What another worker has set the gauge to.
const OTHERS: u64 = 99;
/// The root of the next configuration.
const NEXT_ROOT: i32 = 900;
/// For so long what is held against a cluster's backends outlives it.
const KEPT_NS: u64 = 600_000_000_000;
/// From tick to tick.
const TICK_NS: u64 = 100_000_000;

fn container(clusters: &[Value]) -> String {
    json!({"schema": 1, "clusters": clusters}).to_string()
}

/// A cluster of two backends with a long back-off and a rate limit.
fn cluster() -> Value {
    json!({
        "name": CLUSTER, "retry": {"attempts": 1}, "backoff": {"base": "1h", "max": "1h"},
        "rateLimit": {"perSecond": 1, "burst": 10},
        "backends": [{"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80"}],
    })
}

fn configured() -> Result<Vm> {
    Program::load(&artefacts::module()?)?.configured(&container(&[cluster()]))
}

/// Another worker takes the lease for as long as one lasts, and sets the gauge.
fn another_leads(vm: &mut Vm) -> Result<()> {
    let host = vm.host();
    let lease = Lease {
        vm: 77,
        until: WallTime::from_ns(host.now_ns + LEASE_NS),
        revision: 0,
        picked_at: WallTime::from_ns(host.now_ns),
    };
    host.write_shared(keys::LEASE, lease.encode());
    let gauges = host
        .metrics
        .iter_mut()
        .filter(|(name, _)| name == AVAILABLE);
    gauges.for_each(|(_, value)| *value = OTHERS);
    host.take_calls();
    vm.tick(ROOT)?;
    ensure!(!records(vm), "it leads still");
    Ok(())
}

/// Whether the gauge was set since another worker led.
fn records(vm: &mut Vm) -> bool {
    let record = format!("record_metric {AVAILABLE}");
    vm.host().calls.contains(&record)
}

/// Ticks until the other worker's lease has run out, and some more.
fn lead_again(vm: &mut Vm, root: i32) -> Result<()> {
    for _ in 0..2 * LEASE_NS / TICK_NS {
        vm.host().now_ns += TICK_NS;
        vm.tick(root)?;
    }
    Ok(())
}

#[test]
fn gt_9_a_worker_that_gets_the_lease_back_sets_what_has_not_changed_for_itself() -> Result<()> {
    let mut vm = configured()?;
    vm.tick(ROOT)?;
    assert_eq!(vm.host().metric(AVAILABLE), 2);
    another_leads(&mut vm)?;
    lead_again(&mut vm, ROOT)?;
    assert_eq!(vm.host().metric(AVAILABLE), 2);
    Ok(())
}

/// Who set its gauges may be gone: whoever leads next has never set one.
#[test]
fn gt_9_a_cluster_that_went_while_another_led_has_no_backends() -> Result<()> {
    let mut vm = configured()?;
    another_leads(&mut vm)?;
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(&[]).as_bytes())?);
    lead_again(&mut vm, NEXT_ROOT)?;
    ensure!(records(&mut vm), "it has what another worker set");
    assert_eq!(vm.host().metric(AVAILABLE), 0);
    Ok(())
}

/// It may come back before that, and its backends are what they were.
#[test]
fn what_is_known_of_a_cluster_is_forgotten_ten_minutes_after_it_went() -> Result<()> {
    let mut vm = configured()?;
    vm.serve(&Request {
        ending: Ending::ConnectFailed(0),
        ..Request::get(CLUSTER)
    })?;
    let key = cluster_key(CLUSTER.as_bytes());
    let records = [keys::gates(key), keys::buckets(key)];
    let stand = |vm: &mut Vm| {
        let has = |key| {
            vm.host()
                .shared
                .get(key)
                .is_some_and(|(it, _)| !it.is_empty())
        };
        records.each_ref().map(has)
    };
    vm.create_root(NEXT_ROOT)?;
    ensure!(vm.configure(NEXT_ROOT, container(&[]).as_bytes())?);
    lead_again(&mut vm, NEXT_ROOT)?;
    vm.host().now_ns += KEPT_NS - 5 * LEASE_NS;
    lead_again(&mut vm, NEXT_ROOT)?;
    assert_eq!(stand(&mut vm), [true, true]);
    vm.host().now_ns += LEASE_NS;
    lead_again(&mut vm, NEXT_ROOT)?;
    assert_eq!(stand(&mut vm), [false, false]);
    Ok(())
}
