//! Rules of compiling: endpoints, lifecycle RG-17 to RG-21, sticky values.

use crate::base::hash::BackendKey;
use crate::base::random::SplitMix64;
use crate::cluster::{BackendIndex, EndpointIndex};
use crate::config::{Code, Metric, Policy, State};
use crate::fleet::regimes::tidy;
use crate::testing::drawing::{Drawing, NOW, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn rg_17_an_update_keeps_back_off_health_and_load() {
    let mut drawing = Drawing::new("a:busy2,unhealthy b");
    drawing.fail("a");
    let before = drawing.gates.clone();
    drawing.redraw("b:w7 a:w3,backup c");
    assert_eq!((drawing.load("a").in_flight(), drawing.tries("a")), (2, 1));
    assert_eq!(drawing.gates, before);
    assert!(!drawing.list().contains(&"a".to_owned()));
    assert_eq!(drawing.cluster.endpoints.len(), 3);
}

#[test]
fn rg_17_a_new_address_under_an_old_id_starts_fresh() {
    let mut drawing = Drawing::new("a:busy2,cooling b");
    drawing.redraw("a@z b");
    assert_eq!((drawing.load("a").in_flight(), drawing.tries("a")), (0, 0));
    drawing.redraw("a b");
    assert_eq!(
        drawing.words(),
        "b by Primary alone",
        "the old pair is still in its window"
    );
}

#[test]
fn rg_18_a_removed_backend_has_no_new_requests_and_its_sibling_stays() {
    let mut drawing = Drawing::new("a a2@a b").policy(Policy::RoundRobin);
    drawing.load("a").begin();
    drawing.redraw("a2@a b");
    assert_eq!(
        drawing.load("a2").in_flight(),
        1,
        "the load is the address's"
    );
    drawing.shares(100).each("a2 b", 50, 0);
    drawing.redraw("b");
    assert_eq!(drawing.shares(100).of("b"), 100);
}

#[test]
fn rg_18_a_stream_of_a_removed_backend_ends_where_it_began() {
    let mut drawing = Drawing::new("a b");
    let stream = drawing
        .cluster
        .endpoint(drawing.endpoint("a"))
        .unwrap()
        .load
        .clone();
    stream.begin();
    drawing.redraw("b");
    drawing.loads.prune();
    drawing.redraw("b a");
    assert_eq!(
        drawing.load("a").in_flight(),
        1,
        "still running when it comes back"
    );
    stream.end();
    assert_eq!(
        (drawing.load("a").in_flight(), drawing.load("b").in_flight()),
        (0, 0)
    );
    drop(stream);
    drawing.redraw("b");
    drawing.loads.prune();
    assert_eq!(
        drawing.loads.iter().count(),
        1,
        "RG-19: nobody holds it, nothing stays"
    );
}

#[test]
fn rg_20_draining_and_cordoned_take_no_new_request_and_finish() {
    let mut drawing = Drawing::new("a b c").policy(Policy::RoundRobin);
    drawing.load("a").begin();
    drawing.redraw("a:draining b c:cordoned");
    assert_eq!(drawing.words(), "b by Primary alone");
    drawing.load("a").end();
    drawing.load("a").end();
    assert_eq!(drawing.load("a").in_flight(), 0);
    drawing.redraw("a b c");
    drawing.shares(300).each("a b c", 100, 0);
}

#[test]
fn gates_of_removed_backends_are_forgotten_late() {
    let mut drawing = Drawing::new("a:waited b");
    drawing.redraw("b");
    tidy(
        &drawing.cluster,
        &mut drawing.gates,
        true,
        NOW.plus(599 * SECOND),
    );
    assert_eq!(drawing.gates.entries().len(), 1, "it may come back");
    tidy(
        &drawing.cluster,
        &mut drawing.gates,
        true,
        NOW.plus(601 * SECOND),
    );
    assert!(drawing.gates.encode().is_empty());
}

/// Whoever shares an address, in whichever order: the normal ones stand for it, primaries before
/// backups, the heaviest first, the earliest of equals.
#[test]
fn lb_18_who_stands_for_an_address() {
    for (text, stands, backup, weight) in [
        ("a:w5 b@a:w9 c@a:w9", "b", false, 9),
        ("a:backup,w90 b@a:w1", "b", false, 1),
        ("a:w1 b@a:backup,w90", "a", false, 1),
        ("a:backup,w1 b@a:backup,w2", "b", true, 2),
        ("a:draining,w90 b@a:w1", "b", false, 1),
        ("a:w1 b@a:draining,w90", "a", false, 1),
        ("a:draining b@a:backup,w3", "b", true, 3),
        ("a:w0 b@a:w0", "a", false, 0),
        ("a:backup,w9 b@a:w0 c@a:w0", "b", false, 0),
    ] {
        let drawing = Drawing::new(text);
        let [endpoint] = &drawing.cluster.endpoints[..] else {
            panic!("{text}")
        };
        assert_eq!(drawing.id(EndpointIndex::of(0)), stands, "{text}");
        assert_eq!(
            (endpoint.backup, endpoint.weight, endpoint.normal),
            (backup, weight, true)
        );
    }
    let gone = Drawing::new("a:draining b@a:cordoned");
    assert!(!gone.cluster.endpoints[0].normal);
}

#[test]
fn a_verdict_or_failure_of_one_id_holds_for_its_address() {
    let mut drawing = Drawing::new("a:unhealthy a2@a b").policy(Policy::RoundRobin);
    assert_eq!(drawing.words(), "b by Primary alone");
    drawing.redraw("a:draining,cooling a2@a b");
    assert_eq!(
        drawing.words(),
        "b by Primary alone",
        "though the failed id is draining"
    );
    // A window from before the clock stepped back hides no other one.
    let mut drawing = Drawing::new("a:cooling a2@a");
    let (key, ahead) = (drawing.key("a2"), drawing.now.plus(drawing.now.ns()));
    drawing.gates.update(key, |gate| {
        (gate.tries, gate.failed_at, gate.until) = (1, ahead, ahead.plus(SECOND));
    });
    assert_eq!(drawing.words(), "refuse AllBackingOff");
}

#[test]
fn lookups_find_what_is_there_and_nothing_else() {
    let drawing = Drawing::new("c a:says=s b:says=s d@c").cookie("-");
    let cluster = &drawing.cluster;
    for backend in &cluster.backends {
        assert_eq!(cluster.backend_by_key(backend.key).unwrap().id, backend.id);
    }
    assert!(cluster.backend_by_key(BackendKey(1)).is_none());
    let named = |value: &[u8]| -> String {
        cluster
            .backends_by_sticky_value(value)
            .map(|b| &*b.id)
            .collect()
    };
    assert_eq!(
        (named(b"s"), named(b"c"), named(b"z"), named(b"")),
        ("ab".into(), "c".into(), "".into(), "".into())
    );
    assert_eq!(
        cluster.keys_at(drawing.endpoint("c")).collect::<Vec<_>>(),
        [drawing.key("c"), drawing.key("d")]
    );
    assert!(cluster.endpoint(EndpointIndex::of(3)).is_none());
    assert!(cluster.backend(BackendIndex::of(4)).is_none());
    let plain = Drawing::new("a");
    assert_eq!(
        plain.cluster.backends_by_sticky_value(b"").count(),
        0,
        "ST-6"
    );
}

#[test]
fn st_1_the_cookie_is_set_only_when_it_says_something_new() {
    let drawing = Drawing::new("a b:says=x c@b:says=y d:draining").cookie("-");
    let set = |served: &str, said: Option<&'static str>| {
        let cookies: Vec<Vec<u8>> = said
            .map(|said| said.as_bytes().to_vec())
            .into_iter()
            .collect();
        crate::stream::cookie::set_cookie(&drawing.cluster, drawing.endpoint(served), &cookies)
    };
    assert_eq!(
        set("a", None).unwrap(),
        "P=a; Path=/; SameSite=Lax; HttpOnly"
    );
    assert!(set("b", Some("a")).unwrap().starts_with("P=x; "));
    assert_eq!(
        (
            set("a", Some("a")),
            set("b", Some("x")),
            set("b", Some("y"))
        ),
        (None, None, None)
    );
    assert!(
        set("b", Some("b")).is_some(),
        "the id of one with a sticky id is not its value"
    );
    let plain = Drawing::new("a");
    assert_eq!(
        crate::stream::cookie::set_cookie(&plain.cluster, plain.endpoint("a"), &[]),
        None,
        "ST-6"
    );
}

#[test]
fn st_5_the_value_never_shows_an_address() {
    let drawing = Drawing::new("a").cookie("-").edit(|config| {
        let backend = &mut config.backends[0];
        (backend.id, backend.id_given) = (backend.address.to_string(), false);
    });
    let value = &drawing.cluster.backends[0].sticky_value;
    assert_eq!(value.len(), 8);
    let line =
        crate::stream::cookie::set_cookie(&drawing.cluster, EndpointIndex::of(0), &[]).unwrap();
    assert!(line.starts_with(&format!("P={value}; ")) && !line.contains("10.0.0"));
}

#[test]
fn every_state_of_the_schema_but_normal_takes_nothing() {
    for state in [State::Draining, State::Cordoned] {
        let mut drawing = Drawing::new("a").edit(|config| config.backends[0].state = state);
        drawing.rng = SplitMix64::new(1);
        assert_eq!(drawing.words(), "refuse NoBackends");
    }
}

#[test]
fn rt_15_every_failed_answer_is_read_where_failures_are_averaged() {
    let codes = [0, 14, 200, 301, 404, 429, 503].map(Code::http);
    let telling = |drawing: &Drawing| codes.map(|code| drawing.cluster.is_telling(code));
    let reads = |drawing: &Drawing| {
        let cluster = &drawing.cluster;
        (cluster.reads_answers(), cluster.reads_grpc())
    };
    let drawing = Drawing::new("a");
    assert_eq!(
        (telling(&drawing), reads(&drawing)),
        ([false; 7], (false, false))
    );
    let drawing = drawing.policy(Policy::Tiered);
    let failed = [false, true, false, false, false, true, true];
    assert_eq!((telling(&drawing), reads(&drawing)), (failed, (true, true)));
}

#[test]
fn a_pick_asks_the_time_only_where_something_depends_on_it() {
    let asks = |drawing: Drawing| drawing.cluster.asks_the_time(&[]);
    let plain = || Drawing::new("a");
    assert!(!asks(plain()) && plain().cluster.asks_the_time(b"gates"));
    assert!(asks(plain().slow_start(10)) && asks(plain().metric(Metric::Latency)));
    assert!(asks(plain().policy(Policy::Tiered)) && asks(Drawing::new("a:rate5/1")));
}
