//! What one VM does for all while it holds the lease: the gauges, the ends of regimes that nobody
//! asks about, the news that a backend's last stream has ended.

use log::Level;

use super::metrics::Gauge;
use super::vm::Vm;
use super::{host, shared};
use crate::base::event::EventName;
use crate::base::hash::{self, ClusterKey};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::snapshot::Snapshot;
use crate::fleet::drain::Draining;
use crate::fleet::gauges::GaugeValues;
use crate::fleet::lease::Lease;
use crate::fleet::regimes;
use crate::gates::Gates;

/// Clusters looked at per tick; more are looked at in turns.
const CLUSTERS_PER_TICK: usize = 500;

/// Claims the lease or renews it; `true` while this VM holds it.
pub fn claim_lease(vm: &Vm, revision: u64, now: WallTime) -> bool {
    let (record, version) = host::shared(keys::LEASE);
    let held = vm.lease.borrow_mut().held(&record, version, now);
    let claimant = vm.claimant(revision);
    let claim = Lease::claim(held, &claimant, now);
    let claimed =
        claim.is_some_and(|lease| host::replace_shared(keys::LEASE, &lease.encode(), version));
    if claimed && held.is_none_or(|held| held.vm != claimant.vm) {
        // Another VM may have done the jobs since this one did.
        vm.gauges.borrow_mut().doubt();
    }
    claimed
}

/// Records the gauges of the clusters (GT-9, GT-10) and tidies their gates; of clusters that are gone,
/// zeroes the gauges and in time empties the gates, once all workers are `settled`.
pub fn record_gauges(vm: &Vm, snapshot: &Snapshot, settled: bool, now: WallTime) {
    let mut gauges = vm.gauges.borrow_mut();
    for cluster in gauges.turn(snapshot.clusters(), CLUSTERS_PER_TICK) {
        let (blob, _) = host::shared(&cluster.gates_key);
        let mut gates = Gates::decode(&blob);
        let untidy = !regimes::tidy(cluster, &mut gates, settled, now).is_empty();
        if untidy || gates.encode() != blob {
            let tidy = |gates: &mut Gates| regimes::tidy(cluster, gates, settled, now);
            shared::change_gates(cluster, &vm.metrics, tidy);
        }
        let values = GaugeValues::of(cluster, &gates, now);
        if gauges.is_news(cluster, values) {
            write(vm, (cluster.key, &cluster.name), values);
        }
    }
    if settled {
        let zero = |key, name: &str| write(vm, (key, name), GaugeValues::default());
        gauges.drop_gone(snapshot, now, zero);
        for key in gauges.take_forgotten(now) {
            host::set_shared(&keys::gates(key), &[]);
            let buckets = keys::buckets(key);
            if !host::shared(&buckets).0.is_empty() {
                host::set_shared(&buckets, &[]);
            }
        }
    }
}

fn write(vm: &Vm, cluster: (ClusterKey, &str), values: GaugeValues) {
    let record = |gauge, value| vm.metrics.record(cluster, gauge, value);
    record(Gauge::Available, values.available.into());
    record(Gauge::Total, values.total.into());
    record(Gauge::Cooling, values.cooling.into());
    record(Gauge::FailOpen, values.fail_open.into());
    record(Gauge::AllDown, values.all_down.into());
}

/// Says which draining endpoints have seen their last stream end: their servers may be stopped
/// (RG-19). Once, or again where the lease went over from a VM that had no time for seconds just after it
/// said so: twice is better than never.
pub fn report_drained(vm: &Vm, drained: &[Draining]) {
    for left in drained {
        let (name, backend, address) = (&left.cluster, &left.backend, &left.address);
        let fields = format!("cluster={name} backend={backend:?} address={address}");
        let cluster = (hash::cluster_key(name.as_bytes()), &**name);
        vm.metrics
            .happened(cluster, EventName::BackendDrained, Level::Info, &fields);
    }
}
