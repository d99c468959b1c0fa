//! Tokens of rate limits: taken with the pick, and for every later attempt.

use super::*;
use crate::config::Policy;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn drawn(text: &str) -> Drawing {
    Drawing::new(text).policy(Policy::RoundRobin)
}

/// How long a backend's next token takes.
fn wait(drawing: &Drawing, record: &[u8], id: &str) -> u64 {
    let endpoint = drawing.cluster.endpoint(drawing.endpoint(id)).unwrap();
    let quota = endpoint.quota.as_deref().unwrap();
    Buckets::read(record, drawing.now).wait_ns(quota)
}

/// Where the first attempt goes.
fn first(drawing: &Drawing, step: &Step) -> String {
    match step {
        Step::Forward { plan, .. } => drawing.id(plan.list.first().unwrap()),
        Step::Refuse { reason, .. } => reason.name().to_owned(),
    }
}

#[test]
fn rl_1_a_pick_whose_token_another_worker_takes_is_made_again() {
    let mut drawing = drawn("a:rate5/1 b:rate5/1");
    let mut spent = drawn("a:rate5/1,spent b:rate5/1");
    let (mut stream, mut written) = (Stream::default(), Vec::new());
    let step = stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, record| {
        written.push(record.to_vec());
        (written.len() == 1).then(|| std::mem::take(&mut spent.buckets))
    });
    assert_eq!((first(&drawing, &step), written.len()), ("b".to_owned(), 2));
    assert!(wait(&drawing, &written[0], "a") > 0 && wait(&drawing, &written[0], "b") == 0);
    assert!(wait(&drawing, &written[1], "a") > 0 && wait(&drawing, &written[1], "b") > 0);
    assert_eq!(in_flight_of(&drawing, "b"), 1, "charged once");
    assert_eq!(in_flight_of(&drawing, "a"), 0);
    let all_spent = drawn("a:rate5/1,spent b:rate5/1,spent");
    let step = Stream::default().arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| {
        Some(all_spent.buckets.clone())
    });
    assert_eq!(
        first(&drawing, &step),
        "all_limited",
        "the last token was taken before"
    );
}

fn in_flight_of(drawing: &Drawing, id: &str) -> u32 {
    drawing.load(id).in_flight()
}

/// A request arrives; where its first attempt goes, and how often it asked for the record.
fn sent(drawing: &mut Drawing) -> (String, usize) {
    let (arrival, mut asked) = (drawing.arrival(), 0);
    let (rng, buckets) = (&mut drawing.rng, &mut drawing.buckets);
    let mut is_read = arrival.buckets_version.is_some();
    let step = Stream::default().arrive(&arrival, rng, &mut |_, record| {
        asked += 1;
        if is_read {
            *buckets = record.to_vec();
            return None;
        }
        is_read = true;
        Some(buckets.clone())
    });
    (first(drawing, &step), asked)
}

#[test]
fn rl_1_tokens_taken_in_advance_are_spent_without_a_look_at_the_record() {
    let mut drawing = drawn("a:rate5/2000");
    let requests: Vec<_> = (0..34).map(|_| sent(&mut drawing).1).collect();
    // One is written with 32 for later; then the record is read, and written anew.
    let expected = [&[1][..], &[0; 32], &[2]].concat();
    assert_eq!(requests, expected);
    // All of them are gone from the bucket.
    let quota = drawing.cluster.endpoints[0].quota.as_deref().unwrap();
    let buckets = Buckets::read(&drawing.buckets, drawing.now);
    assert_eq!(buckets.at_cost(2000 - 66).wait_ns(quota), 0);
    assert_eq!(buckets.at_cost(2000 - 65).wait_ns(quota), SECOND / 5);
}

#[test]
fn rl_4_a_batch_is_paid_with_those_in_advance_and_the_rest_of_the_bucket() {
    let mut drawing = drawn("a:rate5/2000");
    sent(&mut drawing);
    let arrive = |drawing: &mut Drawing, cost| {
        let arrival = Arrival {
            cost,
            ..drawing.arrival()
        };
        let mut asked = 0;
        Stream::default().arrive(&arrival, &mut drawing.rng, &mut |_, _| {
            asked += 1;
            (asked == 1).then(|| drawing.buckets.clone())
        });
        asked
    };
    assert_eq!(arrive(&mut drawing, 30), 0);
    assert_eq!(arrive(&mut drawing, 3), 2, "two are left");
    let mut small = drawn("a:rate5/40");
    sent(&mut small);
    // One is here in advance, and 38 are in the bucket.
    assert_eq!(arrive(&mut small, 39), 2);
    assert_eq!(small.cluster.tokens_ahead().count(), 0);
}

/// Whoever is passed by, and whoever is refused, had no token just now: not a while ago.
#[test]
fn rl_2_nobody_is_passed_by_for_what_was_seen_a_while_ago() {
    let mut drawing = drawn("a:rate5/2000 b:rate5/1");
    assert_eq!(sent(&mut drawing), ("a".to_owned(), 1));
    drawing.spend("b");
    let spent = std::mem::take(&mut drawing.buckets);
    drawing.cluster.buckets_seen.replace(Some(spent.into()));
    assert_eq!(sent(&mut drawing), ("b".to_owned(), 2), "it has a token");
    // Decided once, from then on: those in advance are spent all the same.
    assert!(drawing.cluster.buckets_seen.borrow().is_none());
    assert_eq!(sent(&mut drawing), ("a".to_owned(), 0));
    let mut lone = drawn("a:rate5/2000");
    sent(&mut lone);
    let quota = lone.cluster.endpoints[0].quota.as_deref().unwrap();
    quota.ahead.set(0);
    lone.spend("a");
    let seen = std::mem::take(&mut lone.buckets);
    lone.cluster.buckets_seen.replace(Some(seen.into()));
    assert_eq!(sent(&mut lone), ("a".to_owned(), 2), "nor refused");
}

#[test]
fn rl_1_a_token_that_is_outrun_leaves_none_in_advance() {
    let mut drawing = drawn("a:rate5/2000");
    let outrun = drawing.buckets.clone();
    let mut stream = Stream::default();
    stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| {
        Some(outrun.clone())
    });
    assert_eq!(drawing.cluster.tokens_ahead().count(), 0);
    assert!(drawing.cluster.buckets_seen.borrow().is_none());
    sent(&mut drawing);
    assert_eq!(drawing.cluster.tokens_ahead().count(), 1);
    drawing.cluster.forget_tokens();
    assert_eq!(drawing.cluster.tokens_ahead().count(), 0);
    assert_eq!(
        sent(&mut drawing).1,
        1,
        "with the next tick all begins anew"
    );
}

/// No livelock: whatever other workers do, a request is sent after so many tries.
#[test]
fn rl_1_a_pick_that_is_outrun_16_times_is_granted_and_told() {
    let mut drawing = drawn("a:rate5/1 b:rate5/1");
    for (outrun, unpaid) in [(15, false), (16, true), (u32::MAX, true)] {
        let mut tries = 0;
        let mut stream = Stream::default();
        let step = stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| {
            tries += 1;
            (tries <= outrun).then(Vec::new)
        });
        let Step::Forward { plan, .. } = step else {
            panic!("{step:?}");
        };
        assert_eq!((tries, plan.unpaid), (16, unpaid), "{outrun}");
    }
}

#[test]
fn rl_1_a_request_without_a_limited_pick_takes_no_token() {
    let mut drawing = drawn("a b:rate5/1");
    let mut stream = Stream::default();
    stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| {
        panic!("a has no limit")
    });
}

#[test]
fn rl_1_later_attempts_are_charged_where_they_went() {
    let cases = [
        // Who answered at which attempt, and whom later attempts went to.
        ("a", 1, ""),
        ("b", 2, "b"),
        ("c", 3, "bc"),
        // An entry was unknown to Envoy.
        ("c", 2, "c"),
        // Hedging.
        ("b", 3, "b"),
        ("a", 2, ""),
    ];
    for (id, attempts, charged) in cases {
        for ending in [
            Ending::Answered,
            Ending::ConnectFailed,
            Ending::Unanswered,
            Ending::Abandoned,
        ] {
            let mut drawing = drawn("a:rate5/1 b:rate5/1 c:rate5/1");
            let (mut stream, _) = arrived(&mut drawing);
            let answer = answer(&drawing, id, attempts, ending);
            let effects = stream.end(Some(&answer)).unwrap();
            let record = effects.pay(&[], drawing.now);
            assert_eq!(effects.owes(), !charged.is_empty());
            assert!(!effects.owes() || effects.need_clock());
            for id in ["a", "b", "c"] {
                let is_charged = wait(&drawing, &record, id) > 0;
                assert_eq!(
                    is_charged,
                    charged.contains(id),
                    "{id} of {charged}, {ending:?}"
                );
            }
        }
    }
    // A lone one stands twice; both attempts are its own.
    let mut drawing = drawn("a:rate5/1");
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "a", 2)).unwrap();
    assert!(wait(&drawing, &effects.pay(&[], drawing.now), "a") > 0);
}

#[test]
fn a_cluster_without_rate_limits_owes_nothing() {
    let mut drawing = drawn("a:max1 b:max1");
    let (mut stream, _) = arrived(&mut drawing);
    let effects = stream.respond(&served(&drawing, "b", 2)).unwrap();
    assert!(!effects.owes());
}

#[test]
fn rl_2_a_client_keeps_the_cookie_of_a_backend_without_room() {
    for (text, sets) in [
        ("a:rate5/1,spent b", false),
        ("a:max1,busy1 b", false),
        ("a:cooling b", true),
        ("b", true),
    ] {
        let mut drawing = drawn(text).cookie("a");
        let (mut stream, _) = arrived(&mut drawing);
        let effects = stream.respond(&served(&drawing, "b", 1)).unwrap();
        assert_eq!(effects.set_cookie.is_some(), sets, "{text}");
    }
}

#[test]
fn rl_10_a_stream_counts_for_its_client_from_the_pick_to_the_end() {
    use crate::base::hash::ClientKey;
    use crate::cluster::clients::Clients;
    use std::time::Duration;

    let mut clients = Clients::default();
    let client = clients.of(ClientKey(1), 2).unwrap();
    let arrive = |drawing: &mut Drawing| {
        let mut stream = Stream::default();
        let arrival = Arrival {
            client: Some(client.clone()),
            ..drawing.arrival()
        };
        let step = stream.arrive(&arrival, &mut drawing.rng, &mut |_, _| None);
        (stream, step)
    };
    let mut drawing = drawn("a b");
    let (mut first, _) = arrive(&mut drawing);
    let (second, _) = arrive(&mut drawing);
    let refused = |drawing: &mut Drawing| match arrive(drawing).1 {
        Step::Refuse {
            reason: RefusalReason::TooManyStreams,
            retry_after_ns,
        } => retry_after_ns,
        step => panic!("{step:?}"),
    };
    assert_eq!(refused(&mut drawing), Some(60 * SECOND));
    let mut silent = drawn("a b").edit(|config| config.limits.retry_after = Duration::ZERO);
    assert_eq!(refused(&mut silent), None, "0 s: nothing is said");
    first.respond(&served(&drawing, "a", 1)).unwrap();
    assert!(client.has_no_room(), "a stream counts until its end");
    first.end(None);
    assert!(!client.has_no_room());
    let (_, step) = arrive(&mut drawn("a:cooling"));
    assert!(matches!(step, Step::Refuse { .. }));
    assert!(!client.has_no_room(), "who is refused has no stream");
    drop(second);
    drop(arrive(&mut drawing));
    drop(arrive(&mut drawing));
    assert!(!client.has_no_room());
}
