//! Rules of availability: GT-2, GT-10, GT-11.

use super::*;
use crate::testing::drawing::{Drawing, SECOND, names};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn gt_2_available_is_healthy_normal_and_not_exhausted() {
    let text = "a b:cooling c:unhealthy d:down e:draining f:backup g:cordoned,unhealthy h:w0";
    let mut drawing = Drawing::new(text);
    assert_eq!(
        count_available(&drawing.cluster, &drawing.gates),
        (4, 8),
        "a b f h"
    );
    drawing.redraw("a");
    assert_eq!(
        count_available(&drawing.cluster, &drawing.gates),
        (1, 1),
        "strangers count nothing"
    );
}

#[test]
fn gt_10_all_down_and_recovered_once_per_edge() {
    let mut drawing = Drawing::new("a b");
    let mut events = String::new();
    for _ in 0..20 {
        events = format!("{events} {}", drawing.fail("a b"));
        drawing.now = drawing.now.plus(70 * SECOND);
    }
    assert_eq!(
        events.matches("all_down").count(),
        1,
        "GT-11: no probe took part: {events}"
    );
    assert!(drawing.gates.all_down);
    assert_eq!(drawing.serve("b"), "backoff_closed backend_up");
    let mut events = Vec::new();
    for _ in 0..2 {
        recovered(&drawing.cluster, &mut drawing.gates, &mut events);
    }
    assert_eq!(names(&events), "recovered");
}

#[test]
fn cooling_backends_are_counted_while_their_cooldown_lasts() {
    let drawing = Drawing::new("a:limited b:cooling c d@a");
    let counted = |now| count_cooling(&drawing.cluster, &drawing.gates, now);
    assert_eq!(counted(drawing.now), 2, "both ids of the address");
    assert_eq!(counted(drawing.now.plus(SECOND / 2)), 0);
}
