//! Trials: after a window one request at a time tries the backend (GT-3).

use super::*;
use crate::config::{Policy, Retry};
use crate::gates::trial;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn drawn(text: &str) -> Drawing {
    Drawing::new(text).policy(Policy::RoundRobin)
}

/// A request arrives, and what it changes is written.
fn arrive(drawing: &mut Drawing) -> (Stream, Plan) {
    let (mut stream, arrival) = (Stream::default(), drawing.arrival());
    let (gates, buckets) = (&mut drawing.gates, &mut drawing.buckets);
    let step = stream.arrive(&arrival, &mut drawing.rng, &mut |which, record| {
        match which {
            Record::Gates => *gates = Gates::decode(record),
            Record::Buckets => *buckets = record.to_vec(),
        }
        None
    });
    match step {
        Step::Forward { plan, .. } => (stream, plan),
        Step::Refuse { .. } => panic!("{step:?}"),
    }
}

/// The lists of so many requests; one that is a trial has a mark.
fn lists(drawing: &mut Drawing, requests: usize) -> String {
    let mut one = || {
        let (_, plan) = arrive(drawing);
        let ids: String = plan.list.entries().iter().map(|e| drawing.id(*e)).collect();
        format!("{ids}{}", if plan.trial { "!" } else { "" })
    };
    let lists: Vec<String> = (0..requests).map(|_| one()).collect();
    lists.join(" ")
}

/// A stream ends so; the events' names.
fn settle(drawing: &mut Drawing, mut stream: Stream, answer: &Answer) -> String {
    let effects = stream.respond(answer).unwrap();
    let Some(change) = effects.gate_change(drawing.now) else {
        return String::new();
    };
    names(&change.apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng))
}

#[test]
fn gt_3_one_request_at_a_time_tries_a_backend_whose_window_is_over() {
    for text in [
        "a:waited b",
        "a:down b",
        "a:waited b:backup",
        "a:waited,unhealthy b:unhealthy",
    ] {
        let mut drawing = drawn(text);
        assert_eq!(lists(&mut drawing, 4), "ab! b b b", "{text}");
    }
    let mut drawing = drawn("a:limited b");
    drawing.wait_for("a");
    assert_eq!(lists(&mut drawing, 3), "ab! b b", "a cooldown's end alike");
    let mut drawing = drawn("a:waited b:waited");
    assert_eq!(
        lists(&mut drawing, 3),
        "ab! b b",
        "the last is held back from nobody"
    );
    let mut drawing = drawn("a:waited b").edit(|config| config.backoff.half_open = false);
    assert_eq!(lists(&mut drawing, 2), "ab ba");
}

#[test]
fn gt_3_where_nobody_else_is_left_there_are_no_trials() {
    for text in [
        "a:waited",
        "a:waited b:cooling",
        "a:waited b:unhealthy",
        "a:waited b:trial",
    ] {
        let mut drawing = drawn(text);
        assert_eq!(lists(&mut drawing, 2), "a a", "{text}");
    }
    let mut drawing = drawn("a:waited b:max1,busy1");
    assert_eq!(
        lists(&mut drawing, 2),
        "a! a",
        "held back from nobody who has no other"
    );
}

#[test]
fn gt_3_a_trial_that_succeeds_opens_the_backend_to_all() {
    let mut drawing = drawn("a:waited b");
    let (stream, _) = arrive(&mut drawing);
    drawing.now = drawing.now.plus(SECOND);
    let answered = served(&drawing, "a", 1);
    assert_eq!(settle(&mut drawing, stream, &answered), "backoff_closed");
    assert_eq!(drawing.gates, Gates::default());

    let mut drawing = drawn("a:limited b");
    drawing.wait_for("a");
    let (stream, _) = arrive(&mut drawing);
    let answered = served(&drawing, "a", 1);
    assert_eq!(settle(&mut drawing, stream, &answered), "");
    assert_eq!(drawing.gates, Gates::default(), "RT-14");
}

#[test]
fn gt_3_a_trial_that_fails_opens_the_next_window() {
    let mut drawing = drawn("a:waited b");
    let (stream, _) = arrive(&mut drawing);
    let refused = answer(&drawing, "b", 2, Ending::Answered);
    assert_eq!(settle(&mut drawing, stream, &refused), "backoff_opened");
    let gate = drawing.gates.of(drawing.key("a")).unwrap();
    assert!(gate.tries == 2 && !gate.on_trial && gate.backs_off(drawing.now));

    let mut drawing = drawn("a:limited b").cooldown(Cooldown::default());
    drawing.wait_for("a");
    let (stream, _) = arrive(&mut drawing);
    let mut limited = served(&drawing, "a", 1);
    limited.status = Some(Status {
        code: Code::http(429),
        asked_ns: None,
    });
    assert_eq!(settle(&mut drawing, stream, &limited), "cooldown_started");
    let gate = drawing.gates.of(drawing.key("a")).unwrap();
    assert!(gate.cooldowns == 2 && !gate.on_trial);
    assert_eq!(gate.wait_ns(drawing.now), 12 * SECOND);
}

#[test]
fn rt_2_a_request_of_before_the_trial_ends_none() {
    let mut drawing = drawn("b a:waited");
    let (mut stream, _) = arrived(&mut drawing);
    drawing.now = drawing.now.plus(1000);
    let (_, plan) = arrive(&mut drawing);
    assert!(plan.trial);
    let on_trial = drawing.gates.clone();
    for ending in [Ending::Answered, Ending::ConnectFailed] {
        let old = answer(&drawing, "a", 2, ending);
        settle(&mut drawing, std::mem::take(&mut stream), &old);
        assert_eq!(
            drawing.gates.of(drawing.key("a")),
            on_trial.of(drawing.key("a"))
        );
        drawing.gates = on_trial.clone();
        stream = arrived(&mut drawn("b a:waited")).0;
    }
}

/// What is never told, because the client has left or the failure does not count, lapses.
#[test]
fn gt_3_a_trial_lapses_and_another_begins() {
    let timeout = Retry {
        per_try_timeout: Duration::from_millis(250),
        ..Retry::default()
    };
    for (retry, lasts_ms) in [(Retry::default(), 5000), (timeout, 750)] {
        let mut drawing = drawn("a:waited b").edit(|config| config.retry = retry.clone());
        assert_eq!(trial::lasts_ns(&drawing.cluster), lasts_ms * 1_000_000);
        assert_eq!(lists(&mut drawing, 2), "ab! b");
        drawing.now = drawing.now.plus(lasts_ms * 1_000_000 - 1);
        assert_eq!(lists(&mut drawing, 1), "b");
        drawing.now = drawing.now.plus(1);
        assert_eq!(lists(&mut drawing, 2), "ab! b");
    }
}

#[test]
fn rt_19_a_pick_whose_trial_another_worker_has_begun_is_made_again() {
    let mut drawing = drawn("a:waited b");
    let on_trial = drawn("a:trial b").gates.encode();
    let mut tries = 0;
    let mut stream = Stream::default();
    let step = stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |which, _| {
        tries += 1;
        (which == Record::Gates).then(|| on_trial.clone())
    });
    let Step::Forward { plan, .. } = step else {
        panic!("{step:?}");
    };
    assert_eq!(
        (drawing.id(plan.list.first().unwrap()), tries),
        ("b".to_owned(), 1)
    );
    assert_eq!(
        [drawing.load("a").in_flight(), drawing.load("b").in_flight()],
        [0, 1]
    );
}

/// No livelock: whatever other workers do, a request is sent after so many tries.
#[test]
fn a_trial_that_is_outrun_16_times_is_none() {
    for (outrun, trial) in [(15, true), (16, false), (u32::MAX, false)] {
        let mut drawing = drawn("a:waited b");
        let (arrival, mut tries) = (drawing.arrival(), 0);
        let mut stream = Stream::default();
        let step = stream.arrive(&arrival, &mut drawing.rng, &mut |_, _| {
            tries += 1;
            (tries <= outrun).then(|| arrival.gates.clone())
        });
        let Step::Forward { plan, .. } = step else {
            panic!("{step:?}");
        };
        assert_eq!((tries, plan.trial), (16, trial), "{outrun}");
    }
}

#[test]
fn a_trial_takes_its_token_first() {
    let mut drawing = drawn("a:waited,rate5/1 b");
    let (arrival, mut records) = (drawing.arrival(), Vec::new());
    Stream::default().arrive(&arrival, &mut drawing.rng, &mut |which, _| {
        records.push(which);
        None
    });
    assert_eq!(records, [Record::Buckets, Record::Gates]);
}

#[test]
fn rt_11_trials_hold_back_no_more_of_a_tier_than_failures_may() {
    let failing = |config: &mut ClusterConfig| config.passive.failures = vec![Failure::ServerError];
    let code = Code::http(500);
    let failed = Met::Status(Status {
        code,
        asked_ns: None,
    });
    let mut drawing = drawn("a b c d").edit(failing);
    drawing.meet("a", failed, NOW);
    drawing.wait_for("a");
    drawing.meet("c", failed, drawing.now);
    drawing.meet("d", failed, drawing.now);
    assert_eq!(lists(&mut drawing, 2), "ab ba", "two of four are held back");
    drawing.now = drawing.now.plus(1);
    drawing.serve("d");
    assert_eq!(lists(&mut drawing, 3), "dba abd! bd");
    assert_eq!(
        drawing.meet("a", failed, drawing.now),
        "backoff_opened",
        "it does not stand in its own way"
    );
}
