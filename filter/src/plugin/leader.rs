//! What one VM does for all: the gauges, the ends of regimes that nobody asks about, the news that a
//! backend's last stream has ended.

use super::metrics::Gauge;
use super::sidecar::Exchange;
use super::vm::Vm;
use super::{host, shared};
use crate::cluster::Cluster;
use crate::cluster::snapshot::Registry;
use crate::fleet::heartbeat::Card;
use crate::gates::Gates;
use crate::gates::transition;

/// Clusters looked at per tick; more are looked at in turns.
const CLUSTERS_PER_TICK: usize = 500;
/// Records the gauges of the clusters (GT-9, GT-10), tidies their gates, and zeroes the gauges of
/// clusters that are gone.
pub fn record(vm: &Vm, registry: &Registry, exchange: &mut Exchange, now_ns: u64) {
    let clusters = registry.clusters();
    let mut recorded = vm.recorded.borrow_mut();
    for cluster in exchange.turn(clusters, CLUSTERS_PER_TICK) {
        let (blob, _) = host::shared(&cluster.gates_key);
        let mut gates = Gates::decode(&blob);
        let untidy = !transition::tidy(cluster, &mut gates, now_ns).is_empty();
        if untidy || gates.encode() != blob {
            let tidy = |gates: &mut Gates| transition::tidy(cluster, gates, now_ns);
            shared::change_gates(cluster, &vm.stats, tidy);
        }
        let values = values(cluster, &gates);
        if recorded.is_news(cluster, values) {
            write(vm, (cluster.key, &cluster.name), values);
        }
    }
    recorded.drop_gone(registry, |key, name| write(vm, (key, name), [0; 4]));
}

fn values(cluster: &Cluster, gates: &Gates) -> [u64; 4] {
    let (available, total) = transition::count_available(cluster, gates);
    [
        available.into(),
        total.into(),
        gates.fail_open.into(),
        gates.all_down.into(),
    ]
}

fn write(vm: &Vm, cluster: (u64, &str), values: [u64; 4]) {
    let gauges = [
        Gauge::Available,
        Gauge::Total,
        Gauge::FailOpen,
        Gauge::AllDown,
    ];
    for (gauge, value) in gauges.into_iter().zip(values) {
        vm.stats.record(cluster, gauge, value);
    }
}

/// Says which leaving endpoints have seen their last stream end: their servers may be stopped
/// (RG-19). Every VM forgets them then; the one with the lease says so.
pub fn report_drained(
    vm: &Vm,
    registry: &Registry,
    cards: &[Card],
    now_ns: u64,
    holds_lease: bool,
) {
    let mut leaving = vm.leaving.borrow_mut();
    let drained = leaving.take_drained(cards, registry.revision, now_ns);
    if drained.is_empty() {
        return;
    }
    for left in drained.iter().filter(|_| holds_lease) {
        let (cluster, backend, address) = (&left.cluster, &left.backend, &left.address);
        log::info!("event=backend_drained cluster={cluster} backend={backend:?} address={address}");
    }
    drop(drained);
    vm.loads.borrow_mut().prune();
}
