//! Rules of regimes that end, and that nothing is told twice: GT-7, GT-10.

use super::*;
use crate::gates::availability::{count_available, fails_open};
use crate::testing::drawing::{Drawing, NOW, names};
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
