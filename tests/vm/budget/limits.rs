//! What a rate limit costs: one decision of clusters whose backends all have one.

use pointsman_filter::base::hash::{cluster_key, load_key};
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::quota::Quota;
use pointsman_filter::config::RateLimit;
use pointsman_filter::gates::buckets::Buckets;

use super::*;

const PER_SECOND: u32 = 1;
const PLENTY: u32 = 1_000_000;
const DECISIONS: i32 = 400;
/// How much more a decision of ten limited backends may take than one of ten others.
const MORE_MAX: u64 = 2500;

/// Instructions of one decision among so many backends, each with so many tokens at most, after each was
/// asked once; the last of them has plenty. 0: without limits.
fn figure(program: &Program, backends: u32, burst: u32) -> Result<u64> {
    let key = cluster_key(CLUSTER.as_bytes());
    let (mut record, mut documents) = (Vec::new(), Vec::new());
    let mut now = WallTime::default();
    for i in 0..backends {
        let burst = if i + 1 == backends {
            burst.max(PLENTY)
        } else {
            burst
        };
        let mut document = json!({"id": format!("{CLUSTER}-{i}"), "address": address(i)});
        let limit = RateLimit {
            per_second: PER_SECOND,
            burst,
        };
        now = WallTime::from_ns(harness::vm::host::Host::default().now_ns);
        let quota = Quota::new(load_key(key, &address(i)), limit);
        record = Buckets::read(&record, now).take(&quota);
        document["rateLimit"] = json!({"perSecond": PER_SECOND, "burst": burst});
        documents.push(document);
    }
    if burst == 0 {
        documents
            .iter_mut()
            .for_each(|document| document["rateLimit"] = json!(null));
    }
    let cluster = json!({"name": CLUSTER, "retry": {"attempts": 1}, "backends": documents});
    let container = json!({"schema": 1, "clusters": [cluster]});
    let mut vm = program.configured(&container.to_string())?;
    vm.host().write_shared(&keys::buckets(key), record);
    ensure!(vm.host().now_ns == now.ns(), "another time");
    let mut total = 0;
    for stream in 2..2 + DECISIONS {
        vm.create_stream(stream, ROOT)?;
        ensure!(vm.arrive(stream, &Request::get(CLUSTER))?, "refused");
        total += vm.fuel();
        vm.delete(stream)?;
    }
    Ok(total / DECISIONS.unsigned_abs() as u64)
}

#[test]
fn a_limited_decision_takes_little_more_than_another() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    for backends in [10, 100, 2000] {
        let figures = [0, PLENTY, 1].map(|burst| figure(&program, backends, burst));
        let [plain, full, empty] = figures;
        let (plain, full, empty) = (plain?, full?, empty?);
        println!(
            "{backends} backends: {plain} instructions without limits, {full} where all have tokens, \
             {empty} where all but one have none"
        );
        ensure!(backends > 10 || full <= plain + MORE_MAX, "{full}");
    }
    Ok(())
}
