//! What is promised, case by case: writes as a user makes them, the registry as it is served.

use std::path::Path;
use std::time::Duration;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ExchangeConfig, State};

use super::*;
use crate::registry::{Registry, document};
use crate::stores::redis::layout::Layout;

const NOW: u64 = 10_000_000;

fn key(text: &str) -> Key {
    Layout::new("pm").parse(text.as_bytes()).unwrap()
}

fn hash(fields: &[(&str, &str)]) -> Raw {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Raw::Hash(fields.iter().map(|(f, v)| (bytes(f), bytes(v))).collect())
}

fn text(text: &str) -> Raw {
    Raw::Text(text.as_bytes().to_vec())
}

/// A cluster `a` with one backend, `a-1`.
fn cluster_a() -> (Key, Raw) {
    let text = text(r#"{"name":"a","backends":[{"id":"a-1","address":"10.0.0.1:80"}]}"#);
    (key("pm:cluster:a"), text)
}

fn records(more: Vec<(&str, Raw)>) -> Records {
    let mut records = Records::default();
    let more = more.into_iter().map(|(text, raw)| (key(text), raw));
    records.replace([cluster_a()].into_iter().chain(more).collect());
    records
}

/// `cluster: id state, …; …`.
fn served(reading: &Reading) -> String {
    let backend = |it: &BackendConfig| match it.state {
        State::Normal => it.id.clone(),
        state => format!("{} {}", it.id, state.name()),
    };
    let cluster = |it: &ClusterConfig| {
        let backends: Vec<String> = it.backends.iter().map(backend).collect();
        format!("{}: {}", it.name, backends.join(", "))
    };
    let clusters: Vec<String> = reading.listing.clusters.iter().map(cluster).collect();
    clusters.join("; ")
}

fn rejected(reading: &Reading) -> Vec<String> {
    let rejected = reading.listing.rejected.iter();
    rejected.map(|bad| bad.errors.to_string()).collect()
}

#[test]
fn hashes_add_to_the_document_and_for_an_equal_id_the_document_wins() {
    let records = records(vec![
        ("pm:backend:a:self", hash(&[("address", "10.0.0.2:80")])),
        ("pm:backend:a:a-1", hash(&[("address", "10.0.0.9:80")])),
        ("pm:backend:b:lost", hash(&[("address", "10.0.0.3:80")])),
    ]);
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1, self");
    assert_eq!(
        reading.listing.clusters[0].backends[0].address.to_string(),
        "10.0.0.1:80"
    );
    assert_eq!(
        rejected(&reading),
        ["clusters.b: 1 backends registered, but no document"]
    );
    let report = &reading.reports["a"];
    assert_eq!(
        (report.accepted, report.backends, report.registered),
        (true, 2, 1)
    );
    assert!(!reading.reports["b"].accepted);
}

#[test]
fn what_turns_bad_keeps_its_last_good_version_until_it_is_gone() {
    let mut records = records(vec![(
        "pm:backend:a:self",
        hash(&[("address", "10.0.0.2:80")]),
    )]);
    records.put(key("pm:cluster:a"), text("{"));
    records.put(key("pm:backend:a:self"), hash(&[("address", "nowhere")]));
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1, self");
    assert_eq!(rejected(&reading).len(), 2);
    assert!(reading.reports["a"].error.contains("must be JSON"));
    // Also over a full reading; a record that has never been good is not there at all.
    records.replace(vec![
        (key("pm:cluster:a"), text("{")),
        (key("pm:cluster:c"), text("{")),
        (key("pm:cluster:c d"), text("{}")),
    ]);
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1");
    assert_eq!(rejected(&reading).len(), 3);
    records.put(key("pm:cluster:c d"), Raw::Missing);
    records.put(key("pm:cluster:c"), Raw::Missing);
    let (key_a, good) = cluster_a();
    records.put(key_a, good);
    assert!(rejected(&records.read(NOW)).is_empty());
    records.put(key("pm:cluster:a"), Raw::Missing);
    assert_eq!(served(&records.read(NOW)), "");
}

#[test]
fn a_silent_backend_is_out_at_90_s_and_gone_at_3600_s() {
    let beat = NOW.to_string();
    let fields = [("address", "10.0.0.2:80"), ("heartbeatAt", beat.as_str())];
    let records = records(vec![("pm:backend:a:self", hash(&fields))]);
    let fresh = records.read(NOW + STALE_MS);
    assert_eq!(served(&fresh), "a: a-1, self");
    assert_eq!(fresh.due, Some(NOW + STALE_MS + 1));
    let stale = records.read(NOW + STALE_MS + 1);
    assert_eq!((served(&stale).as_str(), stale.due), ("a: a-1", None));
    assert!(records.read(NOW + GONE_MS).gone.is_empty());
    let gone = records.read(NOW + GONE_MS + 1).gone;
    assert_eq!(gone, [(key("pm:backend:a:self"), NOW)]);
}

/// RG-14: nobody could send a heartbeat while the store was away.
#[test]
fn who_was_alive_before_each_of_two_outages_has_the_whole_time_again() {
    let beat = |at: u64| {
        let at = at.to_string();
        hash(&[("address", "10.0.0.2:80"), ("heartbeatAt", at.as_str())])
    };
    let read = || {
        let silent = ("pm:backend:a:silent", beat(NOW - STALE_MS));
        records(vec![("pm:backend:a:self", beat(NOW)), silent])
    };
    let mut once = read();
    let until = NOW + 2 * GONE_MS;
    once.spare(NOW + STALE_MS, until);
    let back = once.read(until + STALE_MS);
    assert_eq!(served(&back), "a: a-1, self");
    // Who was out before stays out, and goes.
    let silent = [(key("pm:backend:a:silent"), NOW - STALE_MS)];
    assert_eq!(back.gone, silent);
    assert_eq!(served(&once.read(until + STALE_MS + 1)), "a: a-1");

    // Back for a moment only: no heartbeat came, and the store is away again.
    let mut twice = read();
    twice.spare(NOW + STALE_MS, until);
    let again = until + 2 * GONE_MS;
    twice.spare(until + 1, again);
    for full in [false, true] {
        if full {
            let silent = (key("pm:backend:a:silent"), beat(NOW - STALE_MS));
            let own = (key("pm:backend:a:self"), beat(NOW));
            twice.replace(vec![cluster_a(), own, silent]);
        }
        let back = twice.read(again + STALE_MS);
        assert_eq!(served(&back), "a: a-1, self");
        assert_eq!(
            (back.due, back.gone),
            (Some(again + STALE_MS + 1), silent.to_vec())
        );
        assert_eq!(served(&twice.read(again + STALE_MS + 1)), "a: a-1");
    }
}

/// RG-14 after a start: the store may have been away for longer than any backend could be heard.
#[test]
fn who_is_found_silent_at_the_start_has_the_whole_time_again() {
    let own = || key("pm:backend:a:self");
    let beat = |at: u64| {
        let at = at.to_string();
        hash(&[("address", "10.0.0.2:80"), ("heartbeatAt", at.as_str())])
    };
    let start = NOW + 2 * GONE_MS;
    let mut records = records(vec![("pm:backend:a:self", beat(NOW))]);
    records.spare(0, start);
    for full in [false, true] {
        if full {
            records.replace(vec![cluster_a(), (own(), beat(NOW))]);
        }
        let spared = records.read(start + STALE_MS);
        assert_eq!(served(&spared), "a: a-1, self");
        assert_eq!(spared.due, Some(start + STALE_MS + 1));
        let out = records.read(start + STALE_MS + 1);
        assert_eq!(served(&out), "a: a-1");
        assert!(records.read(start + GONE_MS).gone.is_empty());
        let gone = records.read(start + GONE_MS + 1).gone;
        assert_eq!(gone, [(own(), NOW)]);
    }
    // Heard again it is as alive as before; a heartbeat that came later counts as it stands.
    let heard = records.put(own(), beat(start + 5));
    assert_eq!(heard, Change::Beat { before: start });
    records.put(own(), beat(NOW + 1));
    let late = records.read(start);
    assert_eq!((served(&late).as_str(), late.gone.len()), ("a: a-1", 1));
}

#[test]
fn an_operators_word_beats_all_until_it_expires() {
    let expires = format!(r#"{{"state":"Draining","expiresAt":{}}}"#, NOW + 5);
    let mut records = records(vec![
        ("pm:backend:a:self", hash(&[("address", "10.0.0.2:80")])),
        (
            "pm:override:a",
            hash(&[
                ("a-1", "Cordoned"),
                ("self", &expires),
                ("nobody", "Draining"),
            ]),
        ),
        ("pm:override:b", hash(&[("x", "Draining")])),
    ]);
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1 Cordoned, self Draining");
    assert_eq!(reading.due, Some(NOW + 5));
    assert!(rejected(&reading).is_empty() && !reading.reports.contains_key("b"));
    assert_eq!(served(&records.read(NOW + 5)), "a: a-1 Cordoned, self");
    // An override that cannot be read leaves the one before in force.
    records.put(key("pm:override:a"), hash(&[("a-1", "Cordoned!")]));
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1 Cordoned, self");
    assert_eq!(rejected(&reading).len(), 1);
    records.put(key("pm:override:a"), text("x"));
    let reading = records.read(NOW);
    assert_eq!(served(&reading), "a: a-1 Cordoned, self");
    assert_eq!(rejected(&reading), ["overrides.a: must be a hash"]);
    records.put(key("pm:override:a"), Raw::Missing);
    assert_eq!(served(&records.read(NOW)), "a: a-1, self");
}

#[test]
fn a_write_that_changes_nothing_is_no_change() {
    let beat = |at: &str| hash(&[("address", "10.0.0.2:80"), ("heartbeatAt", at)]);
    let mut records = records(vec![("pm:backend:a:self", beat("5"))]);
    let (key_a, same) = cluster_a();
    assert_eq!(records.put(key_a.clone(), same.clone()), Change::None);
    assert_eq!(records.put(key_a.clone(), text("{")), Change::Some);
    assert_eq!(records.put(key_a.clone(), text("{")), Change::None);
    assert_eq!(records.put(key_a, same), Change::Some);
    let own = || key("pm:backend:a:self");
    assert_eq!(records.put(own(), beat("5")), Change::None);
    assert_eq!(records.put(own(), beat("6")), Change::Beat { before: 5 });
    // Back in time: it may be out now.
    assert_eq!(records.put(own(), beat("4")), Change::Some);
    let silent = hash(&[("address", "10.0.0.2:80")]);
    assert_eq!(records.put(own(), silent), Change::Some);
    assert_eq!(records.put(own(), beat("7")), Change::Some);
    assert_eq!(records.put(own(), Raw::Missing), Change::Some);
    assert_eq!(records.put(own(), Raw::Missing), Change::None);
    let overrides = || hash(&[("a-1", "Cordoned")]);
    let override_key = || key("pm:override:a");
    assert_eq!(records.put(override_key(), overrides()), Change::Some);
    assert_eq!(records.put(override_key(), overrides()), Change::None);
    assert_eq!(records.put(override_key(), Raw::Missing), Change::Some);
    assert_eq!(records.put(key("pm:status:a"), overrides()), Change::None);
}

#[test]
fn equal_documents_in_redis_and_in_a_file_give_equal_configurations() {
    let exchange = ExchangeConfig {
        cluster: "pointsman_sidecar".to_owned(),
        token: String::new(),
        verdict_ttl: Duration::from_secs(30),
    };
    let orders = r#"{"name":"orders","sticky":{},"healthCheck":{"tcp":{}},
        "backends":[{"address":"10.0.0.1:80"}]}"#;
    let broken = r#"{"name":"broken","retry":3}"#;
    let file = format!(r#"{{"schema":1,"clusters":[{orders},{broken},{{"name":"empty"}}]}}"#);
    let file = document::check(Path::new("f.json"), &file).unwrap();
    let file = Registry::new(file, exchange.clone());

    let mut records = Records::default();
    let documents = [
        ("empty", r#"{"name":"empty"}"#),
        ("broken", broken),
        ("orders", orders),
    ];
    for (name, document) in documents {
        records.put(key(&format!("pm:cluster:{name}")), text(document));
    }
    let redis = Registry::new(records.read(NOW).listing, exchange);
    assert_eq!(redis.config.to_json(), file.config.to_json());
    assert_eq!(redis.config, file.config, "the probes too");
    assert_eq!(redis.rejected, file.rejected);
}
