//! What a new registry keeps, starts and forgets.

use pointsman_filter::base::hash;

use super::*;

#[test]
fn hc_15_without_a_health_check_everything_is_healthy_at_once() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    let late = stage.next_jobs();
    let unchecked = json!({"name": "orders", "backends": [backend("a", ADDRESS)]});
    assert_eq!(
        stage.apply(vec![unchecked]),
        [up("a", Recovery::CheckRemoved)]
    );
    assert_eq!((stage.counts(), stage.unhealthy_keys()), ((1, 1, false), 0));
    assert_eq!(stage.health.next_due(usize::MAX), None);
    assert_eq!(stage.finish(&late[0], FAILED), None);
    stage.apply(vec![one()]);
    assert!(
        stage.healthy(ADDRESS),
        "a check that comes back starts from nothing"
    );
}

#[test]
fn who_is_gone_stays_unhealthy_until_the_next_registry() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    stage.apply(vec![orders(json!([backend("b", "10.0.0.9:80")]))]);
    assert_eq!(stage.told_unhealthy(), [hash::backend_key("a", ADDRESS)]);
    stage.apply(vec![]);
    assert_eq!(stage.unhealthy_keys(), 0);
}

#[test]
fn hc_16_a_late_result_does_not_touch_a_backend_that_was_added_again() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(2, FAILED);
    let late = stage.next_jobs();
    stage.apply(vec![]);
    stage.apply(vec![one()]);
    assert_eq!(stage.finish(&late[0], FAILED), None);
    assert!(stage.healthy(ADDRESS));
    assert_eq!(stage.rounds(2, FAILED), [], "the row started anew");
}

#[test]
fn another_id_at_an_address_that_is_asked_the_same_starts_from_its_verdict() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    let under_way = stage.next_jobs();
    let renamed = orders(json!([backend("b", ADDRESS)]));
    assert_eq!(stage.apply(vec![renamed]), []);
    assert!(!stage.healthy(ADDRESS));
    assert_eq!(stage.counts(), (0, 1, false));
    assert_eq!(
        stage.unhealthy_keys(),
        2,
        "the old name's until the next registry"
    );
    stage
        .finish(&under_way[0], Outcome::Passed)
        .expect("the address was asked, not the id");
    assert_eq!(stage.rounds(2, Outcome::Passed).len(), 1, "the row goes on");
    assert_eq!(stage.unhealthy_keys(), 1);
    stage.apply(vec![orders(json!([backend("b", ADDRESS)]))]);
    assert_eq!(stage.unhealthy_keys(), 0);
}

#[test]
fn another_id_that_is_asked_something_else_starts_fresh() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    let mut renamed = orders(json!([backend("b", ADDRESS)]));
    renamed["healthCheck"] = json!({"http": {"path": "/other"}});
    stage.apply(vec![renamed]);
    assert!(stage.healthy(ADDRESS));
    let key = hash::backend_key("b", ADDRESS);
    assert!(!stage.told_unhealthy().contains(&key));
}

#[test]
fn hc_17_one_probe_of_an_address_speaks_for_all_its_ids() {
    let two = orders(json!([backend("a", ADDRESS), backend("b", ADDRESS)]));
    let mut stage = Stage::new(vec![two]);
    let mut jobs = 0;
    let mut said = Vec::new();
    for _ in 0..3 {
        for job in stage.next_jobs() {
            jobs += 1;
            said.extend(stage.finish(&job, FAILED).expect("it counts"));
        }
    }
    assert_eq!((jobs, said), (3, vec![down("a"), down("b")]));
    assert_eq!((stage.unhealthy_keys(), stage.counts()), (2, (0, 2, false)));
}

#[test]
fn a_changed_check_keeps_the_verdict_and_asks_at_once() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(3, FAILED);
    let late = stage.next_jobs();
    let mut other = one();
    other["healthCheck"] = json!({"http": {"path": "/other"}});
    assert_eq!(stage.apply(vec![other]), []);
    assert!(!stage.healthy(ADDRESS));
    assert_eq!(
        stage.finish(&late[0], Outcome::Passed),
        None,
        "it answered another question"
    );
    let due = stage.health.next_due(usize::MAX).expect("a probe");
    assert!(due < stage.now + seconds(1));
}

#[test]
fn hc_20_a_changed_interval_holds_from_the_next_round_on() {
    let mut stage = Stage::new(vec![one()]);
    let under_way = stage.next_jobs();
    let mut faster = one();
    faster["healthCheck"] = json!({"tcp": {}, "interval": "2s"});
    stage.apply(vec![faster]);
    assert_eq!(
        stage.health.next_due(usize::MAX),
        None,
        "never two at a time"
    );
    stage
        .finish(&under_way[0], Outcome::Passed)
        .expect("the question is the same");
    let due = stage.health.next_due(usize::MAX).expect("a probe") - stage.now;
    assert!(seconds(2) <= due && due < seconds(3), "{due:?}");
    stage.apply(vec![one()]);
    assert!(stage.health.next_due(usize::MAX).expect("a probe") < stage.now + seconds(1));
}

#[test]
fn an_unrelated_edit_leaves_the_schedule_alone() {
    let mut stage = Stage::new(vec![one()]);
    stage.rounds(1, FAILED);
    let due = stage.health.next_due(usize::MAX);
    stage.now += seconds(3);
    stage.apply(vec![orders(json!([
        backend("a", ADDRESS),
        backend("b", "10.0.0.9:80")
    ]))]);
    let of_a = stage.health.clusters["orders"].targets[&ADDRESS.parse().expect("an address")];
    stage
        .health
        .schedule
        .remove(of_a)
        .map(|at| assert_eq!(Some(at), due))
        .expect("a time");
}

#[test]
fn the_port_of_the_check_is_probed_and_the_verdict_is_the_backends() {
    let mut cluster = one();
    cluster["healthCheck"]["port"] = 9000.into();
    let mut stage = Stage::new(vec![cluster]);
    assert_eq!(stage.next_jobs()[0].address.to_string(), "10.0.0.1:9000");
    assert!(stage.healthy(ADDRESS));
}
