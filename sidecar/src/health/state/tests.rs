mod apply;
mod fair;
mod resume;

use std::collections::BTreeSet;

use pointsman_filter::base::hash::BackendKey;
use serde_json::{Value, json};

use super::super::fixture::{backend, config, orders, seconds};
use super::*;
use crate::model::outcome::{Failure, Obstacle};

const ADDRESS: &str = "10.0.0.1:80";
const FAILED: Outcome = Outcome::Failed(Failure::Refused);

/// A prober that takes registries and results, second by second.
struct Stage {
    health: Health,
    now: Duration,
    revision: u64,
}

impl Stage {
    fn new(clusters: Vec<Value>) -> Self {
        let mut stage = Stage {
            health: Health::new(5, 7, seconds(30)),
            now: seconds(0),
            revision: 0,
        };
        assert_eq!(stage.apply(clusters), []);
        stage
    }

    fn apply(&mut self, clusters: Vec<Value>) -> Vec<Event> {
        self.revision += 1;
        let clusters = config(clusters).clusters;
        let events = self.health.apply(&clusters, self.revision, self.now);
        self.check_view();
        events
    }

    fn start_due(&mut self) -> Vec<Job> {
        self.health.start_due(self.now, usize::MAX)
    }

    /// Goes to when the next probe is due and starts what is due then.
    fn next_jobs(&mut self) -> Vec<Job> {
        self.now = self
            .health
            .next_due(usize::MAX)
            .expect("a probe that is due")
            .max(self.now);
        self.start_due()
    }

    /// Ends this many rounds of every probe with an outcome; returns what was said.
    fn rounds(&mut self, count: u32, outcome: Outcome) -> Vec<Event> {
        let targets = self
            .health
            .targets
            .values()
            .filter(|target| target.probed())
            .count();
        let mut events = Vec::new();
        for _ in 0..count as usize * targets {
            for job in self.next_jobs() {
                events.extend(self.finish(&job, outcome).expect("a result that counts"));
            }
        }
        events
    }

    fn finish(&mut self, job: &Job, outcome: Outcome) -> Option<Vec<Event>> {
        let events = self.health.take_result(job.target, outcome, self.now);
        self.check_view();
        events
    }

    /// Fails unless the view shows all there is, though only what is new was drawn again.
    fn check_view(&mut self) {
        let view = self.health.view();
        let shown: Vec<String> = view.clusters().map(|it| format!("{it:?}")).collect();
        let names = self.health.clusters.keys();
        let drawn = names.map(|name| format!("{:?}", self.health.draw(name).expect("it")));
        assert_eq!(shown, drawn.collect::<Vec<_>>());
    }

    fn healthy(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().expect("an address");
        let cluster = self.health.draw("orders").expect("a cluster");
        cluster.targets[&address].health.healthy
    }

    fn counts(&self) -> (usize, usize, bool) {
        let name = self.health.clusters.keys().next().expect("a cluster");
        let counts = self.health.draw(name).expect("it");
        (counts.healthy, counts.total, counts.half_healthy)
    }

    fn unhealthy_keys(&self) -> usize {
        self.told_unhealthy().len()
    }

    /// The keys that a filter without any verdict is told.
    fn told_unhealthy(&self) -> Vec<BackendKey> {
        let full = self.health.verdicts().answer(Default::default());
        let clusters = full.expect("a full set").clusters.into_iter();
        clusters.flat_map(|cluster| cluster.unhealthy).collect()
    }
}

fn one() -> Value {
    orders(json!([backend("a", ADDRESS)]))
}

fn down(id: &str) -> Event {
    Event::BackendUnhealthy {
        cluster: "orders".into(),
        backend: id.into(),
        address: ADDRESS.parse().expect("an address"),
        reason: Failure::Refused,
    }
}

fn up(id: &str, reason: Recovery) -> Event {
    Event::BackendHealthy {
        cluster: "orders".into(),
        backend: id.into(),
        address: ADDRESS.parse().expect("an address"),
        reason,
    }
}

#[test]
fn hc_12_down_and_up_are_said_once_and_the_verdict_follows() {
    let mut stage = Stage::new(vec![one()]);
    assert_eq!(stage.rounds(2, FAILED), []);
    assert_eq!((stage.healthy(ADDRESS), stage.unhealthy_keys()), (true, 0));
    assert_eq!(stage.rounds(4, FAILED), [down("a")]);
    assert_eq!((stage.healthy(ADDRESS), stage.unhealthy_keys()), (false, 1));
    assert_eq!(
        stage.rounds(5, Outcome::Passed),
        [up("a", Recovery::ProbesPass)]
    );
    assert_eq!((stage.healthy(ADDRESS), stage.unhealthy_keys()), (true, 0));
}

#[test]
fn hc_8_rounds_keep_the_interval_and_the_targets_own_jitter() {
    let mut stage = Stage::new(vec![one()]);
    let first = stage.next_jobs();
    assert!(stage.now < seconds(1), "the first probe is made at once");
    stage.finish(&first[0], Outcome::Passed);
    let mut gaps = BTreeSet::new();
    for _ in 0..5 {
        let before = stage.now;
        let jobs = stage.next_jobs();
        gaps.insert(stage.now - before);
        stage.finish(&jobs[0], Outcome::Passed);
    }
    assert_eq!(gaps.len(), 1, "constant: {gaps:?}");
    let gap = *gaps.first().expect("a gap");
    assert!(seconds(10) <= gap && gap <= seconds(12), "{gap:?}");
}

#[test]
fn hc_8_targets_do_not_fall_into_step() {
    let backends = (1..=50).map(|n| backend(&n.to_string(), &format!("10.0.0.{n}:80")));
    let mut stage = Stage::new(vec![orders(backends.collect())]);
    let mut times = BTreeSet::new();
    for _ in 0..50 {
        stage.next_jobs();
        times.insert(stage.now);
    }
    assert!(times.len() > 40 && stage.now < seconds(1), "{times:?}");
}

#[test]
fn hc_9_a_target_whose_probe_hangs_is_not_probed_again() {
    let mut stage = Stage::new(vec![one()]);
    let jobs = stage.next_jobs();
    stage.now = seconds(100);
    assert_eq!(stage.health.next_due(usize::MAX), None);
    assert!(stage.start_due().is_empty());
    stage.finish(&jobs[0], FAILED);
    assert_eq!(
        stage.start_due().len(),
        1,
        "it is overdue, so it is made at once"
    );
}

#[test]
fn hc_9_a_full_prober_makes_whoever_waits_longest_wait_no_more_and_blames_nobody() {
    let two = [backend("a", "10.0.0.1:80"), backend("b", "10.0.0.2:80")];
    let mut stage = Stage::new(vec![orders(json!(two))]);
    stage.now = seconds(1);
    let first = stage.health.start_due(stage.now, 1);
    assert!(stage.health.start_due(stage.now, 0).is_empty());
    stage.now = seconds(40);
    let second = stage.health.start_due(stage.now, 1);
    assert_ne!(first[0].target, second[0].target);
    assert_eq!(
        (first[0].missed, second[0].missed),
        (0, 3),
        "rounds of 10 to 12 s"
    );
    assert!(stage.healthy("10.0.0.1:80") && stage.healthy("10.0.0.2:80"));
}

#[test]
fn a_probe_that_cannot_be_made_says_nothing_about_the_backend_and_is_said_once() {
    let mut stage = Stage::new(vec![one()]);
    let unknown = Outcome::Unknown(Obstacle::Resources);
    let said = stage.rounds(9, unknown);
    let obstructed = Event::ProbesObstructed {
        cluster: "orders".into(),
        obstacle: Obstacle::Resources,
    };
    assert_eq!(said, [obstructed]);
    stage.rounds(2, FAILED);
    stage.rounds(1, unknown);
    assert!(stage.healthy(ADDRESS));
    assert_eq!(
        stage.rounds(1, FAILED),
        [down("a")],
        "neither does it break the row"
    );
}

#[test]
fn hc_10_only_normal_backends_are_probed_and_weight_0_is() {
    let mut draining = backend("a", ADDRESS);
    draining["state"] = "Draining".into();
    let mut cordoned = backend("b", "10.0.0.2:80");
    cordoned["state"] = "Cordoned".into();
    let mut weightless = backend("c", "10.0.0.3:80");
    weightless["weight"] = 0.into();
    let mut stage = Stage::new(vec![orders(json!([draining, cordoned, weightless]))]);
    stage.now = seconds(9);
    let probed: Vec<String> = stage
        .start_due()
        .iter()
        .map(|job| job.address.to_string())
        .collect();
    assert_eq!(probed, ["10.0.0.3:80"]);
    assert_eq!(stage.counts(), (1, 1, false));
}

#[test]
fn hc_10_a_drained_backend_keeps_its_verdict_and_its_late_result_is_fenced() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    let late = stage.next_jobs();
    let mut draining = backend("a", ADDRESS);
    draining["state"] = "Draining".into();
    stage.apply(vec![orders(json!([draining]))]);
    assert_eq!(stage.health.next_due(usize::MAX), None);
    assert_eq!(stage.finish(&late[0], Outcome::Passed), None);
    stage.apply(vec![one()]);
    assert!(!stage.healthy(ADDRESS));
    assert!(stage.health.next_due(usize::MAX).is_some());
}

#[test]
fn hc_13_all_down_counts_zero() {
    let mut stage = Stage::new(vec![one()]);
    assert_eq!(stage.counts(), (1, 1, false));
    stage.rounds(3, FAILED);
    assert_eq!(stage.counts(), (0, 1, false));
}

#[test]
fn hc_14_half_healthy_is_said_on_the_edge_only() {
    let backends = (1..=4).map(|n| backend(&n.to_string(), &format!("10.0.0.{n}:80")));
    let mut stage = Stage::new(vec![orders(backends.collect())]);
    let mut said = Vec::new();
    let mut take = |stage: &mut Stage, below: u8, outcome: Outcome, rounds: usize| {
        for _ in 0..rounds * 4 {
            for job in stage.next_jobs() {
                let low = job.address.to_string().as_bytes()[7] < b'0' + below;
                let outcome = if low { outcome } else { Outcome::Passed };
                let events = stage.finish(&job, outcome).expect("it counts");
                let half = |e: &Event| matches!(e, Event::ClusterHalfHealthy { .. });
                said.extend(events.into_iter().filter(half));
            }
        }
    };
    take(&mut stage, 2, FAILED, 4);
    assert_eq!(stage.counts(), (3, 4, false));
    take(&mut stage, 3, FAILED, 8);
    assert_eq!(stage.counts(), (2, 4, true));
    take(&mut stage, 5, FAILED, 8);
    assert_eq!(stage.counts(), (0, 4, false));
    let half = Event::ClusterHalfHealthy {
        cluster: "orders".into(),
        healthy: 2,
        total: 4,
    };
    assert_eq!(said, [half]);
}
