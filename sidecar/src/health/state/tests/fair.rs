//! A cluster whose probes all run into their deadlines takes no turn of another's.

use super::super::super::PROBES_MAX;
use super::*;

/// The prober's clock ticks in these.
const STEP: Duration = Duration::from_millis(10);
const END: Duration = Duration::from_secs(60);
/// How long a probe of `orders` takes; those of the dark clusters take their whole deadline.
const QUICK: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(5);

/// A cluster of so many backends, probed every `interval` with a deadline of 5 s.
fn cluster(name: &str, net: u8, count: u16, interval: &str) -> Value {
    let address = |n: u16| format!("10.{net}.{}.{}:80", n / 200, n % 200 + 1);
    let backends: Vec<Value> = (0..count)
        .map(|n| backend(&n.to_string(), &address(n)))
        .collect();
    let check = json!({"tcp": {}, "interval": interval, "timeout": "5s"});
    json!({"name": name, "healthCheck": check, "backends": backends})
}

/// Probes of each cluster that began within a minute, and those of `orders` that began a round late.
fn probed(clusters: Vec<Value>) -> (BTreeMap<Arc<str>, usize>, u64) {
    let mut stage = Stage::new(clusters);
    let mut running: Vec<(Duration, Job)> = Vec::new();
    let (mut begun, mut missed) = (BTreeMap::new(), 0);
    while stage.now < END {
        stage.now += STEP;
        let ended = running.extract_if(.., |(end, _)| *end <= stage.now);
        for (_, job) in ended.collect::<Vec<_>>() {
            let dark = &*job.cluster != "orders";
            let outcome = if dark { FAILED } else { Outcome::Passed };
            stage.health.take_result(job.target, outcome, stage.now);
        }
        let free = PROBES_MAX - running.len();
        for job in stage.health.start_due(stage.now, free) {
            let dark = &*job.cluster != "orders";
            missed += if dark { 0 } else { job.missed };
            *begun.entry(Arc::clone(&job.cluster)).or_default() += 1;
            let lasts = if dark { DEADLINE } else { QUICK };
            running.push((stage.now + lasts, job));
        }
    }
    (begun, missed)
}

#[test]
fn a_thousand_black_holes_of_one_cluster_delay_no_other_clusters_probes() {
    let orders = || cluster("orders", 1, 20, "1s");
    let (alone, _) = probed(vec![orders()]);
    let (beside, missed) = probed(vec![orders(), cluster("dark", 2, 1000, "5s")]);
    assert_eq!(missed, 0);
    assert!(
        beside["orders"] >= alone["orders"],
        "{beside:?}, alone {alone:?}"
    );
    // 384 at a time, each for 5 s.
    assert!(beside["dark"] > 4000, "{beside:?}");
}

#[test]
fn nor_do_several_such_clusters_that_share_what_there_is() {
    let orders = || cluster("orders", 1, 20, "1s");
    let (alone, _) = probed(vec![orders()]);
    let dark = |net| cluster(&format!("dark-{net}"), net, 1000, "5s");
    let (beside, missed) = probed(vec![orders(), dark(2), dark(3), dark(4)]);
    assert_eq!(missed, 0);
    assert!(
        beside["orders"] >= alone["orders"],
        "{beside:?}, alone {alone:?}"
    );
    let shares = ["dark-2", "dark-3", "dark-4"].map(|name| beside[name]);
    let (least, most) = (shares.iter().min(), shares.iter().max());
    assert!(
        least
            .zip(most)
            .is_some_and(|(least, most)| least * 5 > most * 4),
        "{beside:?}"
    );
}
