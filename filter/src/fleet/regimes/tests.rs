//! Rules of regimes that end, and that nothing is told twice: GT-7, GT-10.

use super::*;
use crate::gates::availability::{count_available, fails_open};
use crate::gates::trial;
use crate::testing::drawing::{Drawing, NOW, SECOND, names};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn lb_18_a_newcomer_at_a_dead_address_is_no_recovery() {
    let mut drawing = Drawing::new("a");
    drawing.redraw("a:down");
    assert_eq!(
        names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW)),
        "all_down"
    );
    drawing.redraw("a a2@a");
    assert_eq!(count_available(&drawing.cluster, &drawing.gates), (0, 2));
    assert_eq!(
        names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW)),
        ""
    );
}

#[test]
fn gt_10_an_all_down_cluster_that_is_emptied_does_not_recover() {
    let mut drawing = Drawing::new("a:down b:unhealthy");
    let tidied =
        |drawing: &mut Drawing| names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW));
    assert_eq!(tidied(&mut drawing), "all_down");
    drawing.redraw("");
    assert_eq!(tidied(&mut drawing), "");
    drawing.redraw("c");
    assert_eq!(tidied(&mut drawing), "recovered");
    drawing.redraw("");
    assert_eq!(
        tidied(&mut drawing),
        "",
        "an empty cluster is never all down"
    );
}

#[test]
fn gt_7_fail_open_is_latched_and_ends_when_somebody_is_ready() {
    let mut drawing = Drawing::new("a:unhealthy b:unhealthy");
    let mut events = Vec::new();
    for _ in 0..100 {
        fails_open(&mut drawing.gates, &mut events);
    }
    assert_eq!(names(&events), "fail_open_entered");
    assert_eq!(
        names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW)),
        "all_down"
    );
    drawing
        .gates
        .judge(&[], |key| key == drawing.cluster.backends[0].key, NOW);
    let unsettled = tidy(&drawing.cluster, &mut drawing.gates, false, NOW);
    assert_eq!(names(&unsettled), "", "workers of two configurations");
    let events = tidy(&drawing.cluster, &mut drawing.gates, true, NOW);
    assert_eq!(names(&events), "fail_open_left recovered");
    assert_eq!(
        names(&tidy(&drawing.cluster, &mut drawing.gates, true, NOW)),
        ""
    );
}

/// Who was the last, and is tried by one request, ends the regime: all others may try it too, so that
/// nobody is sent to the unhealthy.
#[test]
fn gt_7_fail_open_ends_with_a_trial() {
    let mut drawing = Drawing::new("a:unhealthy b:cooling");
    fails_open(&mut drawing.gates, &mut Vec::new());
    let tidied = |drawing: &mut Drawing| {
        let events = tidy(&drawing.cluster, &mut drawing.gates, true, drawing.now);
        names(&events)
    };
    assert_eq!(tidied(&mut drawing), "");
    drawing.now = NOW.plus(SECOND);
    let (cluster, blob) = (drawing.cluster.clone(), drawing.gates.encode());
    let record = trial::begin(&cluster, &blob, drawing.endpoint("b"), drawing.now);
    assert_eq!(record, None, "the last is held back from nobody");
    drawing.redraw("a:unhealthy b c:waited");
    let (cluster, blob) = (drawing.cluster.clone(), drawing.gates.encode());
    let record = trial::begin(&cluster, &blob, drawing.endpoint("c"), drawing.now);
    drawing.gates = Gates::decode(&record.expect("a trial"));
    drawing.redraw("a c");
    assert_eq!(drawing.pick(), "c", "nobody else is left");
    assert_eq!(tidied(&mut drawing), "fail_open_left");
}

#[test]
fn a_ramp_is_forgotten_when_it_is_over_and_not_before() {
    let mut drawing = Drawing::new("a:back1 b").slow_start(10);
    for (seconds, is_left) in [(0, true), (8, true), (9, false)] {
        let now = NOW.plus(seconds * SECOND);
        tidy(&drawing.cluster, &mut drawing.gates, true, now);
        assert_eq!(drawing.gates.of(drawing.key("a")).is_some(), is_left);
    }
}
