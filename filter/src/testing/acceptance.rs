//! The acceptance list of the balancer that the routing core's rules come from, test by test
//! (SEMANTICS 1.9), in this core's terms.

use crate::base::hash::BackendKey;
use crate::config::{ClusterConfig, FilterConfig};
use crate::fleet::regimes::tidy;
use crate::gates::availability::{count_available, fails_open};
use crate::testing::drawing::{Drawing, NOW, SECOND, names};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn tidied(drawing: &mut Drawing) -> String {
    names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW))
}

fn available(text: &str) -> (u32, u32) {
    let drawing = Drawing::new(text);
    count_available(&drawing.cluster, &drawing.gates)
}

#[test]
fn retrieve_backend() {
    assert_eq!(Drawing::new("a").pick(), "a");
}

#[test]
fn unknown_cluster_errs() {
    // The filter steps aside for a cluster that no configuration names: there is nothing to route.
    let config =
        FilterConfig::parse(br#"{"schema":1,"clusters":[{"name":"orders","backends":[]}]}"#);
    let clusters = config.unwrap().clusters;
    assert!(
        !clusters
            .iter()
            .any(|cluster: &ClusterConfig| cluster.name == "stranger")
    );
}

#[test]
fn empty_list_errs() {
    assert_eq!(Drawing::new("").words(), "refuse NoBackends");
}

#[test]
fn sticky_found() {
    assert_eq!(Drawing::new("a b c").cookie("b").pick(), "b");
}

#[test]
fn sticky_unknown_errs_when_nothing_else() {
    assert_eq!(
        Drawing::new("a:draining").cookie("z").words(),
        "refuse NoBackends"
    );
}

#[test]
fn sticky_on_empty_errs() {
    assert_eq!(Drawing::new("").cookie("a").words(), "refuse NoBackends");
}

#[test]
fn add_new() {
    let mut drawing = Drawing::new("a");
    drawing.redraw("a b");
    drawing.shares(1000).each("a b", 500, 80);
}

#[test]
fn re_add_same_does_not_grow() {
    let mut drawing = Drawing::new("a:busy1 b");
    drawing.redraw("a b");
    assert_eq!(
        (
            drawing.cluster.endpoints.len(),
            drawing.load("a").in_flight()
        ),
        (2, 1)
    );
    let twice = r#"{"name":"o","backends":[{"id":"a","address":"10.0.0.1:1"},
        {"id":"a","address":"10.0.0.1:1"}]}"#;
    assert!(ClusterConfig::parse(&serde_json::from_str(twice).unwrap()).is_err());
}

#[test]
fn fail_open_picks_unhealthy_normal_and_okay() {
    assert_eq!(
        Drawing::new("a:unhealthy b:unhealthy,draining").words(),
        "a by FailOpen alone"
    );
}

#[test]
fn fail_open_skips_wait_and_does_not_latch() {
    let mut drawing = Drawing::new("a:unhealthy,cooling b:cooling");
    assert_eq!(drawing.words(), "refuse AllBackingOff");
    assert_eq!(tidied(&mut drawing), "");
    assert!(!drawing.gates.fail_open);
}

#[test]
fn fail_open_warn_latched_once_cleared_on_heal() {
    let mut drawing = Drawing::new("a:unhealthy b:unhealthy");
    let enter = |drawing: &mut Drawing| {
        let mut events = Vec::new();
        (0..3).for_each(|_| fails_open(&mut drawing.gates, &mut events));
        names(&events)
    };
    assert_eq!(enter(&mut drawing), "fail_open_entered");
    assert_eq!(tidied(&mut drawing), "all_down");
    drawing.gates.judge(&[], |_| true, drawing.now);
    assert_eq!(tidied(&mut drawing), "fail_open_left recovered");
    assert_eq!(enter(&mut drawing), "fail_open_entered");
}

#[test]
fn is_available_needs_health_and_status_and_not_down() {
    assert_eq!(available("a"), (1, 1));
    assert_eq!(available("a:cooling"), (1, 1));
    for text in ["a:unhealthy", "a:draining", "a:cordoned", "a:down"] {
        assert_eq!(available(text), (0, 1), "{text}");
    }
}

#[test]
fn availability_of_nobody_is_0_of_0() {
    assert_eq!(available(""), (0, 0));
}

#[test]
fn availability_counts_only_healthy() {
    assert_eq!(available("a b:unhealthy c"), (2, 3));
}

#[test]
fn availability_excludes_exhausted() {
    assert_eq!(available("a b:down"), (1, 2));
}

#[test]
fn flips_to_all_down_idempotently() {
    let mut drawing = Drawing::new("a:unhealthy b:down");
    assert_eq!(tidied(&mut drawing), "all_down");
    assert_eq!(tidied(&mut drawing), "");
}

#[test]
fn recovers() {
    let mut drawing = Drawing::new("a:unhealthy");
    tidied(&mut drawing);
    drawing.gates.judge(&[], |_| true, drawing.now);
    assert_eq!(tidied(&mut drawing), "recovered");
    assert_eq!(tidied(&mut drawing), "");
}

#[test]
fn empty_stays_available() {
    let mut drawing = Drawing::new("");
    assert_eq!(tidied(&mut drawing), "");
    assert!(!drawing.gates.all_down);
}

#[test]
fn unknown_cluster_is_no_op() {
    // Verdicts on backends that this configuration does not name neither gate nor count.
    let mut drawing = Drawing::new("a");
    drawing
        .gates
        .judge(&[1, 2, 3].map(BackendKey), |_| false, drawing.now);
    assert_eq!(drawing.words(), "a by Primary alone");
    assert_eq!(tidied(&mut drawing), "");
    assert_eq!(count_available(&drawing.cluster, &drawing.gates), (1, 1));
}

#[test]
fn import_publishes_gauges() {
    // The numbers are there before the first request.
    assert_eq!(available("a b c:backup"), (3, 3));
}

#[test]
fn removing_health_check_re_emits() {
    // Without a check the sidecar's full set names nobody: pristine, and the regime's end is told.
    let mut drawing = Drawing::new("a:unhealthy,waited b:unhealthy");
    tidied(&mut drawing);
    drawing.gates.judge(&[], |_| true, drawing.now);
    assert_eq!(tidied(&mut drawing), "recovered");
    assert_eq!(
        drawing.tries("a"),
        1,
        "health and back-off leave each other alone"
    );
}

#[test]
fn e2e_unhealthy_excluded_recovery_removal_fail_open() {
    let mut drawing = Drawing::new("a:unhealthy b");
    assert_eq!(drawing.shares(50).of("b"), 50);
    drawing.gates.judge(&[], |_| true, drawing.now);
    drawing.shares(1000).each("a b", 500, 80);
    drawing.redraw("b");
    assert_eq!(drawing.shares(50).of("b"), 50);
    drawing.redraw("b:unhealthy");
    assert_eq!(drawing.words(), "b by FailOpen alone");
    drawing.fail("b");
    assert_eq!(drawing.words(), "refuse AllBackingOff");
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(drawing.words(), "b by FailOpen alone");
}

#[test]
fn e2e_invalid_config_refused() {
    assert!(
        FilterConfig::parse(br#"{"schema":1,"clusters":[{"name":"o","backends":[{}]}]}"#).is_err()
    );
}

#[test]
fn e2e_expected_status_honoured() {
    use crate::config::Probe;
    let json = r#"{"name":"o","backends":[],"healthCheck":{"http":{"expectedStatuses":["204"]}}}"#;
    let cluster = ClusterConfig::parse(&serde_json::from_str(json).unwrap()).unwrap();
    let Some(Probe::Http(http)) = cluster.health_check.map(|check| check.probe) else {
        panic!("an http probe")
    };
    assert!(http.expects(204) && !http.expects(200));
}
