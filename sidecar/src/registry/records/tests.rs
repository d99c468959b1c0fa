//! The rules that no store has for itself.

use pointsman_filter::config::ClusterConfig;
use serde_json::{Value, json};

use super::*;
use crate::registry::record::{Document, Wanted};

const NOW: Moment = Moment {
    store: 0,
    steady: 0,
};

/// A document at this place that claims this name.
fn document(place: &str, rank: i64, name: &str, good: bool) -> Record {
    record(
        place,
        rank,
        match good {
            true => json!({"name": name, "backends": [{"id": place, "address": "10.0.0.1:80"}]}),
            false => json!({"name": name, "weight": 1}),
        },
    )
}

fn record(place: &str, rank: i64, document: Value) -> Record {
    let name = document["name"].as_str().unwrap().to_owned();
    Record {
        place: place.to_owned(),
        rank,
        what: What::Document(Document {
            claim: Some(name),
            title: place.to_owned(),
            etag: document.to_string(),
            overrides: Ok(BTreeMap::new()),
            object: None,
            judge: Box::new(move || ClusterConfig::parse(&document).map(Wanted::from)),
        }),
    }
}

/// Whose backends the clusters have.
fn served(records: &Records) -> Vec<String> {
    let clusters = records.read(NOW).listing.clusters;
    let line = |it: &ClusterConfig| format!("{}: {}", it.name, it.backends[0].id);
    clusters.iter().map(line).collect()
}

#[test]
fn of_several_documents_with_one_name_the_lowest_rank_has_it_good_or_bad() {
    let mut records = Records::default();
    records.replace(
        vec![
            document("a", 5, "orders", true),
            document("z", 1, "orders", true),
        ],
        NOW,
    );
    assert_eq!(served(&records), ["orders: z"]);
    let reading = records.read(NOW);
    let loser = reading.reports.iter().find(|it| it.place == "a").unwrap();
    assert_eq!(loser.verdict, Verdict::NameTaken);
    assert_eq!(loser.error, "clusters.orders: must be unique, but z has it");
    // Broken it keeps the name and its last good version serves.
    records.put(document("z", 1, "orders", false), NOW);
    assert_eq!(served(&records), ["orders: z"]);
    let gone = Record {
        place: "z".to_owned(),
        rank: 1,
        what: What::Gone,
    };
    assert!(records.put(gone, NOW));
    assert_eq!(served(&records), ["orders: a"]);
    // Of equal ranks the place decides.
    records.put(document("b", 5, "orders", true), NOW);
    assert_eq!(served(&records), ["orders: a"]);
    assert!(
        records.put(document("b", 4, "orders", true), NOW),
        "a new rank"
    );
    assert_eq!(served(&records), ["orders: b"]);
}

/// The places of the records that are served with a warning.
fn warned(records: &Records) -> Vec<String> {
    let mut reports = records.read(NOW).reports;
    reports.retain(|report| report.warning.is_some());
    assert!(reports.iter().all(|it| it.verdict == Verdict::Accepted));
    reports.into_iter().map(|report| report.place).collect()
}

/// ST-1: the report on each cluster of two that share a cookie says so, for as long as they do.
#[test]
fn st_1_clusters_that_share_a_cookie_are_warned_of() {
    let sticky =
        |name, cookie| record(name, 0, json!({"name": name, "sticky": {"cookie": cookie}}));
    let mut records = Records::default();
    records.replace(
        vec![sticky("a", "C"), sticky("b", "C"), sticky("c", "D")],
        NOW,
    );
    assert_eq!(warned(&records), ["a", "b"]);
    records.put(sticky("b", "B"), NOW);
    assert!(warned(&records).is_empty());
}

/// RL-5: so does the report on a cluster that reads larger bodies than Envoy holds by itself.
#[test]
fn rl_5_clusters_with_large_bodies_are_warned_of() {
    let reading = |name, most: u32| {
        let document = json!({"name": name, "jsonRpc": {"maxBodyBytes": most}});
        record(name, 0, document)
    };
    let mut records = Records::default();
    records.replace(vec![reading("a", 2_000_000), reading("b", 1_000_000)], NOW);
    assert_eq!(warned(&records), ["a"]);
    records.put(reading("a", 1_000_000), NOW);
    assert!(warned(&records).is_empty());
}

#[test]
fn a_limited_cluster_takes_in_no_more_than_have_a_bucket() {
    let backend = |nth: usize| json!({"address": format!("10.0.{}.{}:80", nth >> 8, nth & 255)});
    let cluster = |from: usize, to: usize, limit: Value| {
        let backends: Vec<Value> = (from..to).map(backend).collect();
        let document = json!({"name": "orders", "backends": backends, "rateLimit": limit});
        ClusterConfig::parse(&document).unwrap()
    };
    let more = cluster(1999, 2005, Value::Null).backends;
    for (limit, room) in [(json!({}), (1, 5)), (Value::Null, (6, 0))] {
        let mut cluster = cluster(0, 1999, limit);
        assert_eq!(known::merge(&mut cluster, more.iter().collect()), room);
        let read = ClusterConfig::parse(&cluster.to_value());
        assert!(read.is_ok(), "what filters are sent they take");
    }
}
