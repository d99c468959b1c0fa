//! Objects in, registries out.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use pointsman_filter::config::ClusterConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::model::clock::Moment;
use crate::registry::records::{Reading, Records, Report, Verdict};
use crate::registry::services::{SERVICE_LABEL, Services};
use crate::stores::kubernetes::access::nearby;

const NOW: u64 = 1_700_000_000_000;

/// Both clocks agree.
fn at(ms: u64) -> Moment {
    Moment {
        store: ms,
        steady: ms,
    }
}

fn object(name: &str, created: &str, spec: Value) -> Object {
    said(name, created, spec, None)
}

fn said(name: &str, created: &str, spec: Value, overrides: Option<Value>) -> Object {
    let annotations = overrides.map(|overrides| json!({crd::OVERRIDES: overrides.to_string()}));
    let metadata = json!({
        "name": name, "uid": format!("{name}@{created}"), "annotations": annotations,
        "creationTimestamp": format!("2026-01-01T00:00:{created}Z"),
    });
    let object = json!({"metadata": metadata, "spec": spec});
    Object::of(serde_json::from_value(object).expect("an object"))
}

fn backends(ids: &[&str]) -> Value {
    let backend = |(i, id)| json!({"id": id, "address": format!("10.0.0.{}:80", i + 1)});
    let backends: Vec<Value> = ids.iter().enumerate().map(backend).collect();
    json!({"backends": backends})
}

fn records(objects: Vec<Object>) -> Records {
    let mut records = Records::default();
    records.replace(objects.into_iter().map(Object::record).collect(), at(NOW));
    records
}

fn put(records: &mut Records, object: Object) -> bool {
    records.put(object.record(), at(NOW))
}

fn put_services(records: &mut Records, sight: Sight, slices: Vec<EndpointSlice>) {
    let mut services = Services::default();
    services.replace(slices);
    services.sight = sight;
    let what = What::Services(Arc::new(services));
    let place = "services".to_owned();
    let rank = 0;
    assert!(records.put(Record { place, rank, what }, at(NOW)));
}

/// The clusters of a reading: name, then each backend with its state.
fn served(reading: &Reading) -> Vec<String> {
    let line = |cluster: &ClusterConfig| {
        let backends = cluster.backends.iter();
        let backends = backends.map(|it| format!(" {}:{}", it.id, it.state.name()));
        cluster.name.clone() + &backends.collect::<String>()
    };
    reading.listing.clusters.iter().map(line).collect()
}

fn report<'a>(reading: &'a Reading, object: &str) -> &'a Report {
    let mut reports = reading.reports.iter();
    let found = reports.find(|it| it.object.as_ref().is_some_and(|it| it.name == object));
    found.expect("a report on the object")
}

#[test]
fn rg_9_a_bad_object_keeps_its_last_good_version() {
    let mut records = records(vec![
        object("a", "00", backends(&["one"])),
        object("b", "01", backends(&["two"])),
    ]);
    assert!(put(&mut records, object("a", "00", json!({"weight": 1}))));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a one:Normal", "b two:Normal"]);
    let bad = report(&reading, "a");
    assert_eq!(bad.verdict, Verdict::Invalid);
    assert_eq!(bad.error, "clusters.a.weight: is not a known field");
    assert_eq!(bad.cluster.as_deref(), Some("a"));
    assert_eq!(reading.listing.rejected[0].place, "clusters.a");
    // Another full reading of the same keeps it, repairing ends it.
    let listed = vec![object("a", "00", json!({"weight": 1})).record()];
    records.replace(listed, at(NOW));
    assert_eq!(served(&records.read(at(NOW))), ["a one:Normal"]);
    put(&mut records, object("a", "00", backends(&["three"])));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a three:Normal"]);
    assert_eq!(report(&reading, "a").verdict, Verdict::Accepted);
    // Deleted and made again it has no past.
    assert!(records.put(object("a", "00", Value::Null).gone(), at(NOW)));
    put(&mut records, object("a", "09", json!({"weight": 1})));
    assert_eq!(served(&records.read(at(NOW))), [""; 0]);
}

#[test]
fn of_two_objects_with_one_name_the_older_wins() {
    let other = |id: &str| {
        let mut spec = backends(&[id]);
        spec["name"] = "orders".into();
        spec
    };
    let mut records = records(vec![
        object("a", "05", other("younger")),
        object("z", "01", other("older")),
    ]);
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["orders older:Normal"]);
    let loser = report(&reading, "a");
    assert_eq!(loser.verdict, Verdict::NameTaken);
    let expected = "clusters.orders: must be unique, but the older BackendCluster z has it";
    assert_eq!(loser.error, expected);
    assert_eq!(report(&reading, "z").verdict, Verdict::Accepted);
    // Broken, the older one still has the name: its last good version serves.
    put(
        &mut records,
        object("z", "01", json!({"name": "orders", "x": 1})),
    );
    assert_eq!(served(&records.read(at(NOW))), ["orders older:Normal"]);
    records.put(object("z", "01", Value::Null).gone(), at(NOW));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["orders younger:Normal"]);
}

#[test]
fn an_operators_word_holds_until_it_ends() {
    let overrides = json!({"one": "Cordoned", "two": {"state": "Draining", "expiresAt": NOW + 5},
        "three": "Fine"});
    let mut records = records(vec![said(
        "a",
        "00",
        backends(&["one", "two"]),
        Some(overrides),
    )]);
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a one:Cordoned two:Draining"]);
    assert_eq!(reading.due, Some(NOW + 5));
    let expected = "overrides.a[three].state: must be Cordoned or Draining";
    assert_eq!(report(&reading, "a").error, expected);
    let later = records.read(at(NOW + 5));
    assert_eq!(served(&later), ["a one:Cordoned two:Normal"]);
    // Garbage in the annotation takes nothing back; an empty one does.
    let mut garbage = object("a", "00", backends(&["one", "two"]));
    garbage.overrides = Some("{".to_owned());
    assert!(put(&mut records, garbage));
    assert_eq!(
        served(&records.read(at(NOW + 5))),
        ["a one:Cordoned two:Normal"]
    );
    assert!(put(
        &mut records,
        object("a", "00", backends(&["one", "two"]))
    ));
    assert_eq!(served(&records.read(at(NOW))), ["a one:Normal two:Normal"]);
}

#[test]
fn services_add_their_endpoints_and_the_document_wins() {
    let mut spec = backends(&["web-0"]);
    spec["backendsFrom"] = json!([{"service": {"name": "web"}}]);
    let mut records = records(vec![object("a", "00", spec)]);
    put_services(&mut records, Sight::Clear, Vec::new());
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a web-0:Normal"]);
    let missing = &report(&reading, "a").missing;
    assert_eq!(missing, &["Service web has no EndpointSlice"]);

    let endpoint =
        |pod: &str, ip: &str| json!({"addresses": [ip], "targetRef": {"kind": "Pod", "name": pod}});
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {SERVICE_LABEL: "web"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [endpoint("web-0", "10.1.0.1"), endpoint("web-1", "10.1.0.2")],
    });
    let slice: EndpointSlice = serde_json::from_value(slice).expect("a slice");
    put_services(&mut records, Sight::Clear, vec![slice.clone()]);
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a web-0:Normal web-1:Normal"]);
    let addresses = reading.listing.clusters[0].backends.iter();
    let addresses: Vec<String> = addresses.map(|it| it.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:80", "10.1.0.2:8080"]);
    assert_eq!(report(&reading, "a").added, 1);
    // Blind, it serves what it saw last and says so.
    put_services(
        &mut records,
        Sight::Blind("no rights".to_owned()),
        vec![slice],
    );
    let blind = records.read(at(NOW));
    assert_eq!(served(&blind), ["a web-0:Normal web-1:Normal"]);
    assert_eq!(report(&blind, "a").missing, ["no rights"]);
}

#[test]
fn until_the_slices_are_read_what_needs_them_serves_as_before_and_all_else_as_it_is() {
    let from = |mut spec: Value, service: &str| {
        spec["backendsFrom"] = json!([{"service": {"name": service}}]);
        spec
    };
    let mut records = records(vec![object("a", "00", backends(&["one"]))]);
    put(
        &mut records,
        object("a", "00", from(backends(&["two"]), "web")),
    );
    put(
        &mut records,
        object("a", "00", from(backends(&["three"]), "api")),
    );
    put(
        &mut records,
        object("b", "01", from(backends(&["new"]), "web")),
    );
    let overrides = json!({"four": {"state": "Draining", "expiresAt": NOW + 5}});
    put(
        &mut records,
        said("c", "02", backends(&["four"]), Some(overrides)),
    );
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["a one:Normal", "c four:Draining"]);
    let waits = report(&reading, "a");
    assert_eq!((waits.refs, waits.cluster.as_deref()), (1, Some("a")));
    assert_eq!(waits.missing, ["EndpointSlices: not read yet"]);
    assert_eq!(report(&reading, "b").cluster, None);
    assert_eq!(reading.due, Some(NOW + 5));
    // Time goes on, and once they are read, or cannot be, everything is as it is wanted.
    let later = records.read(at(NOW + 5));
    assert_eq!(served(&later), ["a one:Normal", "c four:Normal"]);
    assert_eq!(later.due, None, "a due that stays due would be a busy loop");
    let wanted = ["a three:Normal", "b new:Normal", "c four:Normal"];
    for sight in [Sight::Blind("no rights".to_owned()), Sight::Clear] {
        put_services(&mut records, sight, Vec::new());
        assert_eq!(served(&records.read(at(NOW + 5))), wanted);
    }
}

#[test]
fn only_what_matters_to_the_registry_or_its_status_is_news() {
    let mut records = records(vec![object("a", "00", backends(&["one"]))]);
    let mut same = object("a", "00", backends(&["one"]));
    same.status = Some(crd::status::BackendClusterStatus::default());
    let again = |generation: i64| Object {
        generation,
        ..same.clone()
    };
    assert!(!put(&mut records, again(0)), "our own status");
    let told = |records: &Records| report(&records.read(at(NOW)), "a").object.clone().unwrap();
    assert!(told(&records).status.is_some());
    // The same to the letter, but its status is to say so.
    assert!(put(&mut records, again(1)));
    assert_eq!(told(&records).generation, 1);
}

#[test]
fn another_object_of_the_same_name_has_no_past() {
    let mut records = records(vec![object("a", "00", backends(&["one"]))]);
    // Its deletion was not heard of.
    let bad = object("a", "09", json!({"weight": 1}));
    records.replace(vec![bad.record()], at(NOW));
    assert_eq!(served(&records.read(at(NOW))), [""; 0]);
}

/// What somebody deleted is not served, whoever holds it, and its name is free.
#[test]
fn what_is_deleted_and_held_by_a_finalizer_is_not_served() {
    let mut records = records(vec![
        object("a", "00", backends(&["one"])),
        object("b", "01", backends(&["two"])),
    ]);
    assert_eq!(
        served(&records.read(at(NOW))),
        ["a one:Normal", "b two:Normal"]
    );
    let deleted = json!({
        "metadata": {"name": "a", "uid": "a@00", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y", "z"]},
        "spec": backends(&["one"]),
    });
    let deleted = Object::of(serde_json::from_value(deleted).expect("an object"));
    assert!(put(&mut records, deleted));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["b two:Normal"]);
    let told = report(&reading, "a");
    assert_eq!(
        (told.verdict, told.cluster.as_deref()),
        (Verdict::Deleting, None)
    );
    let why = "clusters.a: is being deleted and not served; its finalizers hold it: x/y, z";
    assert_eq!(told.error, why);
    let rejected = &reading.listing.rejected;
    assert_eq!(rejected[0].errors.to_string(), why);
    let mut heir = backends(&["three"]);
    heir["name"] = json!("a");
    assert!(put(&mut records, object("c", "02", heir)));
    let reading = records.read(at(NOW));
    assert_eq!(served(&reading), ["b two:Normal", "a three:Normal"]);
    let verdicts = reading
        .reports
        .iter()
        .filter(|it| it.name.as_deref() == Some("a"));
    let verdicts: Vec<Verdict> = verdicts.map(|it| it.verdict).collect();
    assert_eq!(verdicts, [Verdict::Deleting, Verdict::Accepted]);
}

#[tokio::test]
async fn rg_24_a_server_that_starts_is_back_when_it_lets_us_watch() {
    let (listener, access) = nearby().await;
    let mut feed = KubernetesFeed {
        access,
        lease_duration: Duration::ZERO,
        objects: None,
        slices: SliceWatch::default(),
        needs_slices: false,
    };
    let list = json!({"metadata": {"resourceVersion": "1"}, "items": []});
    let busy = json!({"status": "Failure", "message": "initializing", "reason": "TooManyRequests",
        "code": 429});
    tokio::spawn(async move {
        for (status, body) in [("200 OK", list), ("429 Busy", busy)] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let FeedError(why) = feed.open().await.unwrap_err();
    assert!(why.contains("initializing"), "{why}");
}
