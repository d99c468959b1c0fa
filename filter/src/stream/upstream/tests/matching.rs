//! Which attempts are matched with their streams, and whether two ran at once.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn hedged_attempts_tell_by_answers_and_refused_connections_alone() {
    let mut scene = Scene::new();
    let first = scene.begin();
    scene.wait(SECOND);
    let mut second = scene.begin();
    second.pass();
    let told = scene.close("b", 2, Ending::Answered);
    scene.end(first, "a", false);
    scene.end(second, "b", false);
    assert_eq!((told.as_str(), scene.told.len()), ("b served", 1));

    let mut scene = Scene::new();
    let (first, mut second) = (scene.begin(), scene.begin());
    scene.answer(&mut second, "b", Some(LIMITED));
    scene.end(first, "a", true);
    let third = scene.begin();
    scene.end(third, "c", false);
    let told = scene.close("c", 3, Ending::Reset);
    assert_eq!(told, "b status, a connect");
}

#[test]
fn attempts_that_ran_at_once_tell_nothing_by_envoys_own_answer() {
    let mut scene = Scene::new();
    let (first, second) = (scene.begin(), scene.begin());
    scene.end(second, "b", false);
    scene.end(first, "a", false);
    assert_eq!(scene.close("a", 2, Ending::Reset), "");
}

#[test]
fn an_attempt_that_ends_while_another_runs_tells_nothing_as_a_third_begins() {
    let mut scene = Scene::new();
    let (_first, second) = (scene.begin(), scene.begin());
    scene.end(second, "b", false);
    let _third = scene.begin();
    assert!(scene.told.is_empty(), "{:?}", scene.told);
}

#[test]
fn an_attempt_after_an_answer_is_no_hedged_one() {
    let mut scene = Scene::new();
    let mut first = scene.begin();
    scene.answer(&mut first, "a", Some(LIMITED));
    scene.end(first, "a", false);
    let second = scene.begin();
    scene.end(second, "b", false);
    let _third = scene.begin();
    assert_eq!(scene.told, ["a status", "b reset"]);
}

#[test]
fn attempts_that_go_well_are_never_matched_with_their_streams() {
    let mut scene = Scene::new();
    let none = || -> Option<Rc<Trail>> { panic!("looked for") };
    let mut first = scene.begin();
    first.pass();
    first.look(none);
    assert!(!first.matters());
    let second = scene.begin();
    scene.end(second, "a", false);
    assert!(
        scene.trails.any_awaits(),
        "an attempt ended without an answer"
    );
    let third = scene.begin();
    assert!(!scene.trails.any_awaits(), "and another began");
    scene.end(third, "b", true);
    assert!(!scene.trails.any_awaits(), "that one has told already");
    let fourth = scene.begin();
    scene.end(fourth, "c", false);
    scene.close("c", 3, Ending::Reset);
    assert!(!scene.trails.any_awaits(), "its stream is over");
}

/// A retried error that says nothing is no attempt that still runs.
#[test]
fn an_attempt_after_an_error_that_says_nothing_is_no_hedged_one() {
    let mut scene = Scene::new();
    let mut first = scene.begin();
    scene.answer(&mut first, "a", None);
    scene.end(first, "a", false);
    let second = scene.begin();
    scene.end(second, "b", false);
    let _third = scene.begin();
    assert_eq!(scene.told, ["b reset"]);
}

/// A stream without a timeout beside one with.
#[test]
fn what_had_no_timeout_was_reset() {
    let mut scene = Scene::new();
    let (mut other, mut stream) = (Scene::of("a b c"), Stream::default());
    other.drawing = other
        .drawing
        .edit(|config| config.retry.per_try_timeout = Duration::ZERO);
    stream.arrive(
        &other.drawing.arrival(),
        &mut other.drawing.rng,
        &mut |_, _| None,
    );
    scene.trails.add(MARK, stream.trail().unwrap());
    (scene.stream, scene.drawing) = (stream, other.drawing);
    scene.trails.add(MARK + 1, other.stream.trail().unwrap());
    let first = scene.begin();
    scene.wait(2 * SECOND);
    scene.end(first, "a", false);
    let _second = scene.begin();
    assert_eq!(scene.told, ["a reset"]);
}
