//! What is promised, case by case: writes as a user makes them, the registry as it is served.

mod silence;

use std::path::Path;
use std::time::Duration;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ExchangeConfig, State};

use super::record::record;
use crate::model::clock::Moment;
use crate::model::event::HeartbeatFault;
use crate::registry::records::{Reading, Records, Report, Silent, Verdict};
use crate::registry::{Registry, document};
use crate::stores::redis::layout::{Key, Layout};
use crate::stores::redis::link::Raw;

const NOW: u64 = 1_700_000_000_000;
const STALE_MS: u64 = 90_000;
const GONE_MS: u64 = 3_600_000;

/// Both clocks, which agree until somebody sets the store's.
fn at(ms: u64) -> Moment {
    Moment {
        store: ms,
        steady: ms,
    }
}

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

fn put(records: &mut Records, key: Key, raw: Raw) -> bool {
    put_at(records, key, raw, at(NOW))
}

fn put_at(records: &mut Records, key: Key, raw: Raw, now: Moment) -> bool {
    records.put(record(&Layout::new("pm"), key, raw), now)
}

fn replace(records: &mut Records, read: Vec<(Key, Raw)>) {
    replace_at(records, read, at(NOW));
}

fn replace_at(records: &mut Records, read: Vec<(Key, Raw)>, now: Moment) {
    let layout = Layout::new("pm");
    let read = read.into_iter();
    let read = read.map(|(key, raw)| record(&layout, key, raw));
    records.replace(read.collect(), now);
}

fn report<'a>(reading: &'a Reading, name: &str) -> Option<&'a Report> {
    let mut reports = reading.reports.iter();
    reports.find(|report| report.name.as_deref() == Some(name))
}

fn own() -> Key {
    key("pm:backend:a:self")
}

fn silent() -> Silent {
    Silent {
        cluster: "a".to_owned(),
        id: "self".to_owned(),
        heartbeat: NOW.to_string().into_bytes(),
    }
}

fn beat(at: u64) -> Raw {
    let at = at.to_string();
    hash(&[("address", "10.0.0.2:80"), ("heartbeatAt", at.as_str())])
}

fn records(more: Vec<(&str, Raw)>) -> Records {
    let mut records = Records::default();
    let more = more.into_iter().map(|(text, raw)| (key(text), raw));
    replace(
        &mut records,
        [cluster_a()].into_iter().chain(more).collect(),
    );
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
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1, self");
    assert_eq!(
        reading.listing.clusters[0].backends[0].address.to_string(),
        "10.0.0.1:80"
    );
    assert_eq!(
        rejected(&reading),
        ["clusters.b: 1 backends registered, but no document"]
    );
    let a = report(&reading, "a").unwrap();
    assert_eq!((a.verdict, a.added), (Verdict::Accepted, 1));
    assert_eq!(report(&reading, "b").unwrap().verdict, Verdict::Invalid);
}

#[test]
fn what_turns_bad_keeps_its_last_good_version_until_it_is_gone() {
    let mut records = records(vec![(
        "pm:backend:a:self",
        hash(&[("address", "10.0.0.2:80")]),
    )]);
    put(&mut records, key("pm:cluster:a"), text("{"));
    put(
        &mut records,
        key("pm:backend:a:self"),
        hash(&[("address", "nowhere")]),
    );
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1, self");
    assert_eq!(rejected(&reading).len(), 2);
    assert!(
        report(&reading, "a")
            .unwrap()
            .error
            .contains("must be JSON")
    );
    // Also over a full reading; a record that has never been good is not there at all.
    replace(
        &mut records,
        vec![
            (key("pm:cluster:a"), text("{")),
            (key("pm:cluster:c"), text("{")),
            (key("pm:cluster:c d"), text("{}")),
        ],
    );
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1");
    assert_eq!(rejected(&reading).len(), 3);
    put(&mut records, key("pm:cluster:c d"), Raw::Missing);
    put(&mut records, key("pm:cluster:c"), Raw::Missing);
    let (key_a, good) = cluster_a();
    put(&mut records, key_a, good);
    assert!(rejected(&records.read(at(NOW))).is_empty());
    put(&mut records, key("pm:cluster:a"), Raw::Missing);
    assert_eq!(served(&records.read(at(NOW))), "");
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
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1 Cordoned, self Draining");
    assert_eq!(reading.due, Some(NOW + 5));
    assert!(rejected(&reading).is_empty() && report(&reading, "b").is_none());
    assert_eq!(served(&records.read(at(NOW + 5))), "a: a-1 Cordoned, self");
    // An override that cannot be read leaves the one before in force.
    put(
        &mut records,
        key("pm:override:a"),
        hash(&[("a-1", "Cordoned!")]),
    );
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1 Cordoned, self");
    assert_eq!(rejected(&reading).len(), 1);
    put(&mut records, key("pm:override:a"), text("x"));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), "a: a-1 Cordoned, self");
    assert_eq!(rejected(&reading), ["overrides.a: must be a hash"]);
    put(&mut records, key("pm:override:a"), Raw::Missing);
    assert_eq!(served(&records.read(at(NOW))), "a: a-1, self");
}

#[test]
fn a_write_that_changes_nothing_is_no_change() {
    let mut records = records(vec![("pm:backend:a:self", beat(NOW - 5))]);
    let mut change = |key: &Key, raw: Raw| put(&mut records, key.clone(), raw);
    let (key_a, same) = cluster_a();
    assert!(!change(&key_a, same.clone()));
    assert!(change(&key_a, text("{")));
    assert!(!change(&key_a, text("{")));
    assert!(change(&key_a, same));
    assert!(!change(&own(), beat(NOW - 5)));
    assert!(!change(&own(), beat(NOW - 4)), "a heartbeat");
    assert!(!change(&own(), beat(NOW - 6)), "also one that goes back");
    assert!(change(&own(), hash(&[("address", "10.0.0.2:80")])));
    assert!(change(&own(), beat(NOW - STALE_MS - 1)), "a fault");
    assert!(change(&own(), beat(NOW)), "none any more");
    assert!(change(&own(), Raw::Missing));
    assert!(!change(&own(), Raw::Missing));
    let overrides = || hash(&[("a-1", "Cordoned")]);
    let override_key = key("pm:override:a");
    assert!(change(&override_key, overrides()));
    assert!(!change(&override_key, overrides()));
    assert!(change(&override_key, Raw::Missing));
    assert!(!change(&key("pm:status:a"), overrides()));
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
    let file = document::judged(file, document::judge);
    let file = Registry::new(file, exchange.clone());

    let mut records = Records::default();
    let documents = [
        ("empty", r#"{"name":"empty"}"#),
        ("broken", broken),
        ("orders", orders),
    ];
    for (name, document) in documents {
        put(
            &mut records,
            key(&format!("pm:cluster:{name}")),
            text(document),
        );
    }
    let redis = Registry::new(records.read(at(NOW)).listing, exchange);
    assert_eq!(redis.config.to_json(), file.config.to_json());
    assert_eq!(redis.config, file.config, "the probes too");
    assert_eq!(redis.rejected, file.rejected);
}
