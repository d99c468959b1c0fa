//! Rules of a stream's life: what is charged, what is news, what is measured.

mod averages;
mod held;
mod tokens;
mod trials;

use super::*;
use crate::config::{ClusterConfig, Code, Cooldown, Failure, Policy};
use crate::gates::Gates;
use crate::gates::evidence::{Met, Status};
use crate::stream::attempts::Ending;
use crate::testing::drawing::{Drawing, NOW, SECOND, names};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A stream that has arrived in a drawing.
fn arrived(drawing: &mut Drawing) -> (Stream, Step) {
    let mut stream = Stream::default();
    let step = stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| None);
    (stream, step)
}

/// What Envoy says when the n-th attempt at `id` ended so.
fn answer(drawing: &Drawing, id: &str, attempts: usize, ending: Ending) -> Answer {
    let endpoint = drawing.cluster.endpoint(drawing.endpoint(id)).unwrap();
    Answer {
        address: Some(endpoint.address.as_bytes().to_vec()),
        attempts,
        ending,
        connection_time_ns: None,
        status: None,
    }
}

fn served(drawing: &Drawing, id: &str, attempts: usize) -> Answer {
    answer(drawing, id, attempts, Ending::Answered)
}

/// Streams in flight at each of `a b c`.
fn in_flight(drawing: &Drawing) -> [u32; 3] {
    ["a", "b", "c"].map(|id| drawing.load(id).in_flight())
}

/// Every list begins where the last one did, one further: `a b c`, `b c a`, `c a b`.
fn three() -> Drawing {
    Drawing::new("a b c").policy(Policy::RoundRobin)
}

#[test]
fn the_pick_is_charged_until_the_response_and_the_server_from_then_on() {
    let mut drawing = three();
    let (mut stream, _) = arrived(&mut drawing);
    assert_eq!(in_flight(&drawing), [1, 0, 0]);
    stream.respond(&served(&drawing, "b", 2)).unwrap();
    assert_eq!(in_flight(&drawing), [0, 1, 0]);
    assert!(stream.respond(&served(&drawing, "c", 3)).is_none(), "once");
    assert!(stream.end(None).is_none());
    assert!(stream.end(None).is_none(), "once");
    assert_eq!(in_flight(&drawing), [0, 0, 0]);
}

#[test]
fn lb_1_a_stream_takes_the_turn_of_its_pick() {
    let mut drawing = three();
    let streams: Vec<(Stream, Step)> = (0..3).map(|_| arrived(&mut drawing)).collect();
    assert_eq!(in_flight(&drawing), [1, 1, 1], "{}", streams.len());
}

#[test]
fn a_stream_that_nobody_serves_is_charged_to_nobody() {
    let mut drawing = three();
    let (mut stream, _) = arrived(&mut drawing);
    let refused = answer(&drawing, "c", 3, Ending::ConnectFailed);
    let effects = stream.respond(&refused).unwrap();
    assert!(effects.outcome.exhausted && effects.set_cookie.is_none());
    assert_eq!(in_flight(&drawing), [0, 0, 0]);
    let (mut stream, _) = arrived(&mut drawing);
    let gone = answer(&drawing, "b", 1, Ending::Abandoned);
    let effects = stream.end(Some(&gone)).unwrap();
    assert!(!effects.need_clock() && !effects.outcome.exhausted);
    assert_eq!(in_flight(&drawing), [0, 0, 0]);
    let (mut stream, step) = arrived(&mut Drawing::new("a:cooling"));
    assert!(matches!(step, Step::Refuse { .. }));
    assert!(stream.awaits_response().is_none() && stream.end(Some(&gone)).is_none());
}

#[test]
fn gt_7_fail_open_begins_where_it_is_not_latched() {
    let mut drawing = Drawing::new("a:unhealthy b");
    let begins = |drawing: &mut Drawing| match arrived(drawing).1 {
        Step::Forward { fails_open, .. } => fails_open,
        Step::Refuse { .. } => panic!("refused"),
    };
    assert!(!begins(&mut drawing));
    drawing.redraw("a:unhealthy");
    assert!(begins(&mut drawing));
    drawing.gates.fail_open = true;
    assert!(!begins(&mut drawing));
    drawing.redraw("a:unhealthy b");
    assert!(!begins(&mut drawing), "whoever has the lease ends it");
}

#[test]
fn a_success_is_news_only_of_those_that_had_failed() {
    let mut drawing = three();
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "a", 1)).unwrap();
    assert!(!effects.need_clock() && effects.gate_change(NOW).is_none());
    let mut drawing = Drawing::new("a:waited");
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "a", 1)).unwrap();
    let change = effects.gate_change(NOW).unwrap();
    assert!(effects.need_clock() && change.picked_at == NOW);
    let events = change.apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng);
    assert_eq!(names(&events), "backoff_closed");
    assert_eq!(drawing.gates, Gates::default());
}

#[test]
fn failures_on_the_way_are_always_news() {
    let mut drawing = three();
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "c", 3)).unwrap();
    let change = effects.gate_change(NOW.plus(SECOND)).unwrap();
    let events = change.apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng);
    assert_eq!(names(&events), "backoff_opened backoff_opened");
    assert_eq!((drawing.tries("a"), drawing.tries("b")), (1, 1));
    let mut drawing = three();
    let (mut stream, _) = arrived(&mut drawing);
    let refused = answer(&drawing, "a", 1, Ending::ConnectFailed);
    assert!(stream.end(Some(&refused)).unwrap().need_clock());
}

#[test]
fn st_1_the_server_is_named_to_a_client_that_does_not_know_it() {
    let mut drawing = Drawing::new("a b").cookie("a");
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "a", 1)).unwrap();
    assert_eq!(effects.set_cookie, None);
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "b", 2)).unwrap();
    assert!(effects.set_cookie.unwrap().starts_with("P=b; "));
    drawing.cookies.push(b"b".to_vec());
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "b", 2)).unwrap();
    assert_eq!(
        effects.set_cookie, None,
        "the second of its cookies says so"
    );
}

/// The load report's estimate after an answer that began two seconds after the pick, or a client
/// that left then.
fn measured(metric: Metric, whole_after: Option<u64>, answer: impl Fn(&Drawing) -> Answer) -> u64 {
    let mut drawing = three().metric(metric);
    let mut stream = Stream::default();
    let arrival = Arrival {
        whole: whole_after == Some(0),
        ..drawing.arrival()
    };
    stream.arrive(&arrival, &mut drawing.rng, &mut |_, _| None);
    assert_eq!(stream.times_request(), metric.is_time());
    if let Some(seconds) = whole_after.filter(|seconds| *seconds > 0) {
        stream.request_ended(NOW.plus(seconds * SECOND));
    }
    let now = NOW.plus(2 * SECOND);
    let answer = answer(&drawing);
    let effects = match answer.ending {
        Ending::Abandoned => stream.end(Some(&answer)).unwrap(),
        _ => stream.respond(&answer).unwrap(),
    };
    effects.measure(now);
    let report = ["a", "b"].map(|id| drawing.load(id).report(now));
    let estimate = report
        .iter()
        .flatten()
        .map(|report| report.estimate_ns)
        .max()
        .unwrap_or(0);
    assert!(effects.need_clock() || estimate == 0);
    estimate
}

#[test]
fn lb_7_time_counts_from_the_whole_request_and_for_a_first_attempt_alone() {
    let first = |drawing: &Drawing| served(drawing, "a", 1);
    assert_eq!(measured(Metric::Latency, Some(0), first), 2 * SECOND);
    assert_eq!(measured(Metric::Latency, Some(1), first), SECOND);
    assert_eq!(
        measured(Metric::Latency, None, first),
        0,
        "still being sent"
    );
    assert_eq!(measured(Metric::Requests, Some(0), first), 0);
    let second = |drawing: &Drawing| served(drawing, "b", 2);
    assert_eq!(measured(Metric::Latency, Some(0), second), 0);
}

#[test]
fn rt_12_a_cooling_answer_is_news_once_and_its_time_counts_for_nothing() {
    let status = Status {
        code: Code::http(429),
        asked_ns: None,
    };
    let cooling = |drawing: &Drawing| Answer {
        status: Some(status),
        ..served(drawing, "a", 1)
    };
    let mut drawing = three().cooldown(Cooldown::default());
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&cooling(&drawing)).unwrap();
    assert_eq!(effects.outcome.served(), Some(drawing.endpoint("a")));
    let change = effects.gate_change(NOW).expect("news");
    let events = change.apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng);
    assert_eq!(names(&events), "cooldown_started");
    assert_eq!(measured(Metric::Latency, Some(0), cooling), 0);
    // Once its cooldown is over, the success of a list that it stands in is news.
    drawing.wait_for("a");
    let (mut stream, _) = arrived(&mut drawing);
    let good = served(&drawing, "a", 3);
    let change = stream.respond(&good).unwrap().gate_change(drawing.now);
    change
        .expect("news")
        .apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng);
    assert!(!drawing.view().has_counts(drawing.endpoint("a")));
}

#[test]
fn lb_7_a_connection_takes_as_long_as_the_host_says() {
    let new = |drawing: &Drawing| Answer {
        connection_time_ns: Some(SECOND / 4),
        ..served(drawing, "a", 1)
    };
    assert_eq!(measured(Metric::ConnectionTime, Some(0), new), SECOND / 4);
    let pooled = |drawing: &Drawing| served(drawing, "a", 1);
    assert_eq!(measured(Metric::ConnectionTime, Some(0), pooled), 0);
}

#[test]
fn lb_7_a_client_that_leaves_has_waited_for_the_pick_at_least_so_long() {
    let left =
        |id, attempts| move |drawing: &Drawing| answer(drawing, id, attempts, Ending::Abandoned);
    let measured =
        |metric, whole_after, id, attempts| measured(metric, whole_after, left(id, attempts));
    assert_eq!(measured(Metric::Latency, Some(0), "a", 1), 2 * SECOND);
    assert_eq!(measured(Metric::Latency, Some(1), "a", 1), SECOND);
    for (metric, whole_after, id, attempts) in [
        (Metric::Latency, None, "a", 1),
        (Metric::Latency, Some(0), "b", 2),
        (Metric::Latency, Some(0), "b", 1),
        (Metric::Latency, Some(0), "a", 0),
        (Metric::ConnectionTime, Some(0), "a", 1),
        (Metric::Requests, Some(0), "a", 1),
    ] {
        let estimate = measured(metric, whole_after, id, attempts);
        assert_eq!(estimate, 0, "{metric:?} {whole_after:?} {id} {attempts}");
    }
}

#[test]
fn lb_7_a_clock_that_steps_is_no_slow_backend() {
    let hour = 3600 * SECOND;
    let earlier = WallTime::from_ns(NOW.ns() - hour);
    for (now, seconds) in [(NOW.plus(hour), 60), (earlier, 0)] {
        let mut drawing = three().metric(Metric::Latency);
        let (mut stream, _) = arrived(&mut drawing);
        let effects = stream.respond(&served(&drawing, "a", 1)).unwrap();
        effects.measure(now);
        let report = drawing.load("a").report(now);
        let estimate = report.map_or(0, |report| report.estimate_ns);
        assert_eq!(estimate, seconds * SECOND);
    }
}

/// A drawing where 500 counts, so many in a row.
fn counting(consecutive: u32) -> Drawing {
    three().edit(|config| {
        config.passive.failures = vec![Failure::ServerError];
        config.passive.consecutive = consecutive;
    })
}

fn failed(drawing: &Drawing, id: &str) -> Answer {
    let code = Code::http(500);
    Answer {
        status: Some(Status {
            code,
            asked_ns: None,
        }),
        ..served(drawing, id, 1)
    }
}

/// What a request changes that is answered so by `a`.
fn events(drawing: &mut Drawing, answer: &Answer) -> String {
    let (mut stream, _) = arrived(drawing);
    let effects = stream.respond(answer).unwrap();
    let change = effects.gate_change(drawing.now);
    let events =
        change.map(|change| change.apply(&drawing.cluster, &mut drawing.gates, &mut drawing.rng));
    names(&events.unwrap_or_default())
}

#[test]
fn rt_11_so_many_in_a_row_count_and_a_success_ends_a_row() {
    let mut drawing = counting(3);
    let (bad, good) = (failed(&drawing, "a"), served(&drawing, "a", 1));
    let other = failed(&drawing, "b");
    for answer in [&bad, &bad, &good, &bad, &other, &bad] {
        assert_eq!(events(&mut drawing, answer), "");
    }
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(events(&mut drawing, &bad), "backoff_opened");
    drawing.wait_for("a");
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(
        events(&mut drawing, &bad),
        "backoff_opened",
        "still in a row"
    );
    drawing.wait_for("a");
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(events(&mut drawing, &good), "backoff_closed");
    assert_eq!(events(&mut drawing, &bad), "", "a new row");
}

#[test]
fn rt_11_a_failed_answer_is_slow_however_quick_it_is() {
    let bad = |drawing: &Drawing| failed(drawing, "a");
    let measured = |metric, drawing: Drawing| {
        let mut drawing = drawing.metric(metric);
        let (mut stream, _) = arrived(&mut drawing);
        let effects = stream.respond(&bad(&drawing)).unwrap();
        let now = NOW.plus(SECOND / 1000);
        effects.measure(now);
        let report = drawing.load("a").report(now);
        report.map_or(0, |report| report.estimate_ns)
    };
    assert_eq!(measured(Metric::Latency, counting(1)), SECOND);
    assert_eq!(
        measured(Metric::Latency, counting(5)),
        SECOND,
        "though it is one of five"
    );
    assert_eq!(measured(Metric::ConnectionTime, counting(1)), 0);
    let slow = counting(1);
    slow.load("a").observe(3 * SECOND, NOW);
    let estimate = measured(Metric::Latency, slow);
    assert!(
        estimate > 5 * SECOND && estimate <= 6 * SECOND,
        "{estimate}"
    );
}

#[test]
fn lb_12_requests_without_any_key_are_spread() {
    for policy in [Policy::Rendezvous, Policy::Maglev] {
        let mut drawing = Drawing::new("a b c d e").policy(policy);
        let mut seen = [0; 5];
        let mut arrive = |key| {
            let arrival = Arrival {
                key,
                ..drawing.arrival()
            };
            let Step::Forward { plan, .. } =
                Stream::default().arrive(&arrival, &mut drawing.rng, &mut |_, _| None)
            else {
                panic!("refused");
            };
            seen[plan.list.first().unwrap().place()] += 1;
            seen
        };
        (0..500).for_each(|_| _ = arrive(None));
        let spread = arrive(Some(1));
        assert!(
            spread.iter().all(|count| (60..140).contains(count)),
            "{spread:?}"
        );
        let together = (0..100).map(|_| arrive(Some(1))).last().unwrap();
        let grown = spread
            .iter()
            .zip(together)
            .filter(|(before, after)| *before != after);
        assert_eq!(grown.count(), 1, "{policy:?}");
    }
}
