//! Requests that are held until their bodies say what they ask for.

use super::*;
use crate::base::hash::ClientKey;
use crate::cluster::clients::Clients;
use crate::config::{JsonRpc, Policy};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn drawn(text: &str) -> Drawing {
    let rules = JsonRpc {
        max_batch: 100,
        max_body_bytes: 1000,
        maps_errors: false,
        methods: Vec::new(),
    };
    let drawing = Drawing::new(text).policy(Policy::RoundRobin);
    drawing.edit(move |config| config.json_rpc = Some(rules))
}

fn batch(length: usize) -> Vec<u8> {
    format!("[{}1]", "1,".repeat(length - 1)).into_bytes()
}

/// A stream of the cluster that is held.
fn held(drawing: &Drawing) -> Stream {
    let mut stream = Stream::default();
    assert_eq!(stream.hold(&drawing.cluster, None), None);
    stream
}

#[test]
fn a_held_stream_is_charged_to_nobody_before_it_is_decided() {
    let mut drawing = drawn("a b");
    let mut stream = held(&drawing);
    assert_eq!(stream.read(b"{\"met", false), None);
    assert!(stream.held().is_some() && stream.awaits_response().is_none());
    assert_eq!(
        drawing.load("a").in_flight() + drawing.load("b").in_flight(),
        0
    );
    assert!(matches!(stream.read(b"hod\":\"a\"", false), Some(Ok(_))));
    stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| None);
    assert!(stream.held().is_none() && stream.awaits_response().is_some());
    assert_eq!(
        drawing.load("a").in_flight() + drawing.load("b").in_flight(),
        1
    );
    stream.end(None);
    assert_eq!(
        drawing.load("a").in_flight() + drawing.load("b").in_flight(),
        0
    );
}

#[test]
fn a_held_stream_ends_in_a_pick_or_in_an_answer() {
    let drawing = drawn("a");
    for (bytes, is_end, answered) in [
        (&b"[1]"[..], false, false),
        (b"[]", false, true),
        (b"[1", true, true),
        (b"", true, true),
    ] {
        let mut stream = held(&drawing);
        let known = stream.read(bytes, is_end).unwrap();
        assert_eq!((known.is_err(), stream.is_answered()), (answered, answered));
        assert_eq!(stream.read(b"[1]", true).is_some(), !answered);
        assert!(stream.end(None).is_none());
    }
    let mut refused = drawn("a:cooling");
    let mut stream = held(&refused);
    stream.read(b"[1]", false).unwrap().unwrap();
    let step = stream.arrive(&refused.arrival(), &mut refused.rng, &mut |_, _| None);
    assert!(matches!(step, Step::Refuse { .. }) && stream.is_answered());
}

#[test]
fn a_body_is_missed_where_nothing_of_it_came() {
    let drawing = drawn("a");
    let mut stream = held(&drawing);
    assert!(stream.missed_body().is_some());
    stream.read(b"", false);
    assert!(stream.missed_body().is_none());
    assert!(Stream::default().missed_body().is_none());
}

#[test]
fn rl_10_a_held_stream_counts_for_its_client() {
    let mut clients = Clients::default();
    let client = clients.of(ClientKey(1), 1).unwrap();
    let mut drawing = drawn("a");
    let mut first = Stream::default();
    assert_eq!(first.hold(&drawing.cluster, Some(&client)), None);
    assert!(client.has_no_room());
    let mut second = Stream::default();
    let refused = second.hold(&drawing.cluster, Some(&client));
    let too_many = RefusalReason::TooManyStreams;
    assert!(matches!(refused, Some(Step::Refuse { reason, .. }) if reason == too_many));
    assert!(second.is_answered());
    first.read(b"[1]", false).unwrap().unwrap();
    let step = first.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| None);
    assert!(matches!(step, Step::Forward { .. }), "it is counted once");
    assert!(client.has_no_room());
    first.end(None);
    assert!(!client.has_no_room());
}

#[test]
fn rl_4_a_batch_takes_its_length_wherever_it_is_tried() {
    let mut drawing = drawn("a:rate5/20 b:rate5/20");
    let mut stream = held(&drawing);
    let asked = stream.read(&batch(11), false).unwrap().unwrap();
    let arrival = Arrival {
        cost: asked.cost(),
        ..drawing.arrival()
    };
    let mut record = Vec::new();
    let step = stream.arrive(&arrival, &mut drawing.rng, &mut |_, written| {
        record = written.to_vec();
        None
    });
    assert!(matches!(step, Step::Forward { .. }));
    let left = |record: &[u8], id: &str| {
        let endpoint = drawing.cluster.endpoint(drawing.endpoint(id)).unwrap();
        let quota = endpoint.quota.as_deref().unwrap();
        let buckets = Buckets::read(record, drawing.now);
        (1..=20)
            .rev()
            .find(|cost| buckets.at_cost(*cost).wait_ns(quota) == 0)
    };
    assert_eq!(
        (left(&record, "a"), left(&record, "b")),
        (Some(9), Some(20))
    );
    let effects = stream.respond(&served(&drawing, "b", 2)).unwrap();
    let paid = effects.pay(&record, drawing.now);
    assert_eq!((left(&paid, "a"), left(&paid, "b")), (Some(9), Some(9)));
}

#[test]
fn rl_4_a_batch_passes_by_whom_it_is_too_long_for() {
    let mut drawing = drawn("a:rate5/10 b:rate5/11");
    for _ in 0..4 {
        let arrival = Arrival {
            cost: 11,
            ..drawing.arrival()
        };
        let step = Stream::default().arrive(&arrival, &mut drawing.rng, &mut |_, _| None);
        let Step::Forward { plan, .. } = step else {
            panic!("{step:?}");
        };
        assert_eq!(drawing.id(plan.list.first().unwrap()), "b");
        assert_eq!(plan.list.len(), 1, "nor is it asked when b fails");
    }
    let mut spent = drawn("a:rate5/10 b:rate5/11,spent");
    let arrival = Arrival {
        cost: 11,
        ..spent.arrival()
    };
    let step = Stream::default().arrive(&arrival, &mut spent.rng, &mut |_, _| None);
    let Step::Refuse { retry_after_ns, .. } = step else {
        panic!("{step:?}");
    };
    assert_eq!(retry_after_ns, Some(11 * SECOND / 5), "when b has them all");
}

#[test]
fn rl_4_a_cluster_knows_the_largest_burst_of_those_that_take_requests() {
    for (text, burst) in [
        ("a:rate5/10 b:rate5/11", Some(11)),
        ("a:rate5/10 b", None),
        ("a:rate5/10 b:rate5/11,draining", Some(10)),
        ("a:rate5/10 b:draining", Some(10)),
        ("a:draining", None),
    ] {
        let drawing = drawn(text);
        assert_eq!(drawing.cluster.burst_max, burst, "{text}");
        let mut stream = held(&drawing);
        let known = stream.read(&batch(12), false).unwrap();
        assert_eq!(known.is_err(), burst.is_some(), "{text}");
    }
}
