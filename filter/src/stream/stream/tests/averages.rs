//! What a stream adds to the averages of Tiered (LB-15, RT-15, RT-16).

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MS: u64 = 1_000_000;

fn status(drawing: &Drawing, code: Code) -> Answer {
    let status = Status {
        code,
        asked_ns: None,
    };
    Answer {
        status: Some(status),
        ..served(drawing, "a", 1)
    }
}

/// Latency and penalty of `a`, then of `b`, in milliseconds: after an answer, or an end without one, so many
/// seconds after the pick, which was `a` with `b` behind.
fn averaged(seconds: u64, answer: impl Fn(&Drawing) -> Answer) -> [(u64, u64); 2] {
    let drawing = Drawing::new("a:w60 b:w55").policy(Policy::Tiered);
    let mut drawing = drawing.edit(|config| config.passive.failures = vec![Failure::ServerError]);
    let (mut stream, _) = arrived(&mut drawing);
    assert!(stream.times_request());
    let answer = answer(&drawing);
    let effects = match answer.ending {
        Ending::Abandoned => stream.end(Some(&answer)).unwrap(),
        _ => stream.respond(&answer).unwrap(),
    };
    let now = NOW.plus(seconds * SECOND);
    effects.measure(now);
    let averages = ["a", "b"].map(|id| {
        let average = drawing.load(id).ranking.at(now);
        (average.latency_ns / MS, average.penalty_ns / MS)
    });
    assert!(effects.need_clock() || averages == [(5000, 0); 2]);
    averages
}

#[test]
fn rt_16_a_good_answers_time_is_averaged() {
    let of_a = |drawing: &Drawing| served(drawing, "a", 1);
    assert_eq!(averaged(2, of_a), [(4700, 0), (5000, 0)]);
    // One who served after another is as well as ever, and nothing is known of its time.
    let of_b = |drawing: &Drawing| served(drawing, "b", 2);
    assert_eq!(averaged(2, of_b), [(5000, 16_000), (5000, 0)]);
}

#[test]
fn rt_15_each_failure_counts_by_its_kind() {
    for (code, penalty_ms) in [
        (Code::http(429), 8000),
        (Code::http(503), 12_000),
        (Code::grpc(8), 8000),
        (Code::grpc(14), 12_000),
    ] {
        let averaged = averaged(2, |drawing| status(drawing, code));
        assert_eq!(
            averaged[0],
            (5000, penalty_ms),
            "{code}: a refusal is quick"
        );
    }
    let late = averaged(20, |drawing| status(drawing, Code::http(503)));
    assert_eq!(late[0], (5000, 16_000), "it took longer than it counts for");
    for (ending, penalty_ms) in [
        (Ending::ConnectFailed, 16_000),
        (Ending::Reset, 16_000),
        (Ending::TimedOut, 24_000),
        (Ending::Unanswered, 0),
    ] {
        let averaged = averaged(2, |drawing| answer(drawing, "a", 1, ending));
        assert_eq!(averaged[0], (5000, penalty_ms), "{ending:?}");
    }
}

#[test]
fn lb_7_a_client_that_leaves_only_ever_lengthens_an_average() {
    let left = |seconds| averaged(seconds, |it| answer(it, "a", 1, Ending::Abandoned))[0];
    assert_eq!(left(2), (5000, 0));
    assert_eq!(left(10), (5500, 0));
}

/// An answer that counts for nothing else says that its backend is there: a cooldown is forgotten.
#[test]
fn rt_14_an_answer_that_is_only_averaged_is_one() {
    let mut drawing = Drawing::new("a:limited b:w60").policy(Policy::Tiered);
    drawing.wait_for("a");
    let failed = status(&drawing, Code::http(500));
    assert_eq!(events(&mut drawing, &failed), "");
    assert!(!drawing.view().has_counts(drawing.endpoint("a")));
}

#[test]
fn other_policies_average_nothing() {
    let mut drawing = three().metric(Metric::Latency);
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "a", 1)).unwrap();
    effects.measure(NOW.plus(SECOND));
    assert_eq!(drawing.load("a").ranking.report(NOW), None);
}
