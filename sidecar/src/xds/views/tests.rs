//! Whose view has what, and what its revision stands for.

use pointsman_filter::config::ClusterConfig;
use serde_json::json;

use super::*;
use crate::trust::Trust;
use crate::xds::delivery::tests::registry_of;

/// A registry of `name:weight` words.
fn registry(words: &str) -> Arc<Registry> {
    let clusters = words.split_whitespace().map(|word| {
        let (name, weight) = word.split_once(':').unwrap();
        let weight: u16 = weight.parse().unwrap();
        let backend = json!({"address": "10.0.0.1:80", "weight": weight});
        ClusterConfig::parse(&json!({"name": name, "backends": [backend]})).unwrap()
    });
    registry_of(clusters.collect())
}

fn offer(words: &str, before: Option<&Offer>) -> Offer {
    let (registry, code) = (registry(words), Code::Path("/f.wasm".to_owned()));
    let served = registry.config.clusters.iter();
    let served = served.map(|config| resources::Served {
        config,
        leaving: BTreeSet::new(),
    });
    let whole = resources::snapshot(served, &Trust::default(), &registry.config, &code);
    Offer::new(whole, registry, Arc::new(code), before)
}

fn text(text: &str) -> Value {
    let kind = Some(Data::StringValue(text.to_owned()));
    Value { kind }
}

fn list(values: Vec<Value>) -> Value {
    let kind = Some(Data::ListValue(ListValue { values }));
    Value { kind }
}

fn within(name: &str, value: Value) -> Struct {
    let fields = [(name.to_owned(), value)].into();
    Struct { fields }
}

fn wanted(clusters: Value) -> Result<Option<Wanted>, NotGlobs> {
    let ours = Data::StructValue(within("clusters", clusters));
    let ours = Value { kind: Some(ours) };
    Wanted::of(Some(&within("pointsman", ours)))
}

fn globs(globs: &str) -> Wanted {
    let globs = globs.split_whitespace().map(text);
    wanted(list(globs.collect())).unwrap().unwrap()
}

#[test]
fn a_glob_names_clusters() {
    let cases = [
        ("orders", "orders", true),
        ("orders", "orders2", false),
        ("orders", "order", false),
        ("", "", true),
        ("*", "", true),
        ("*", "anything", true),
        ("a*", "a", true),
        ("a*", "b", false),
        ("*-eu", "orders-eu", true),
        ("*-eu", "orders-eu-2", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("team?/*", "team1/x", true),
        ("team?/*", "team/x", false),
        ("?", "", false),
        ("**a", "bba", true),
    ];
    for (glob, name, expected) in cases {
        let found = matches(glob.as_bytes(), name.as_bytes());
        assert_eq!(found, expected, "{glob} on {name}");
    }
    // Not every way is tried.
    let (glob, name) = ("*a".repeat(100), "a".repeat(250) + "b");
    assert!(!matches(glob.as_bytes(), name.as_bytes()));
}

#[test]
fn what_a_node_wants_is_a_list_of_globs_or_everything() {
    assert_eq!(Wanted::of(None), Ok(None));
    assert_eq!(Wanted::of(Some(&within("other", text("x")))), Ok(None));
    assert_eq!(
        Wanted::of(Some(&within("pointsman", text("x")))),
        Err(NotGlobs)
    );
    let none = Value {
        kind: Some(Data::StructValue(Struct::default())),
    };
    assert_eq!(Wanted::of(Some(&within("pointsman", none))), Ok(None));
    let long = "x".repeat(GLOB_MAX + 1);
    let many = (0..=GLOBS_MAX).map(|it| text(&it.to_string())).collect();
    let wrong = [
        text("*"),
        list(Vec::new()),
        list(vec![text("a"), list(Vec::new())]),
        list(vec![text(&long)]),
        list(many),
    ];
    for value in wrong {
        assert_eq!(wanted(value.clone()), Err(NotGlobs), "{value:?}");
    }
    assert!(globs("a b*").has("bc") && !globs("a b*").has("ab"));
}

#[test]
fn a_view_has_its_clusters_alone_everywhere() {
    let offer = offer("a:1 b:1 c:1", None);
    let view = offer.of(Some(&globs("a c")));
    for shelf in [&view.clusters, &view.endpoints] {
        let names: Vec<&str> = shelf.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "c"]);
    }
    let shared = view.clusters.get("a").zip(offer.whole.clusters.get("a"));
    assert!(shared.is_some_and(|(one, other)| Arc::ptr_eq(one, other)));
    let container = |snapshot: &Snapshot| {
        let body = &snapshot.filters.get(FILTER_NAME).unwrap().body;
        let text = String::from_utf8_lossy(body).into_owned();
        ["a", "b", "c"].map(|name| text.contains(&format!(r#""name":"{name}""#)))
    };
    assert_eq!(container(&view), [true, false, true]);
    assert_eq!(container(&offer.whole), [true, true, true]);
    let upstream = |snapshot: &Snapshot| snapshot.filters.get("pointsman-upstream").cloned();
    assert_eq!(upstream(&view), upstream(&offer.whole));
    assert!(
        Arc::ptr_eq(&view, &offer.of(Some(&globs("c a")))),
        "made once"
    );
    assert!(Arc::ptr_eq(&offer.whole, &offer.of(None)));
}

#[test]
fn a_views_revision_stands_for_the_registrys_and_for_no_other() {
    let (a, all) = (globs("a"), globs("*"));
    let first = offer("a:1 b:1", None);
    let view = first.of(Some(&a));
    let revision = |offer: &Offer, wanted: &Wanted| offer.render(wanted).1;
    let of_a = revision(&first, &a);
    assert_eq!(first.registry_revision(of_a), first.registry.revision);
    // A proxy that still runs an older registry of just these clusters is not taken for a view's.
    let older = registry("a:1").revision;
    assert_eq!(first.registry_revision(older), older);
    assert_ne!(revision(&first, &all), first.registry.revision);
    assert_eq!(first.registry_revision(7), 7);
    // What does not touch the view moves nothing in it, and its workers run the newest at once.
    let second = offer("a:1 b:2", Some(&first));
    assert_eq!(second.registry_revision(of_a), second.registry.revision);
    let again = second.of(Some(&a));
    assert_eq!(again.filters.version(), view.filters.version());
    // What does touch it leaves them behind.
    let third = offer("a:2 b:2", Some(&second));
    assert_eq!(third.registry_revision(of_a), of_a);
    let newest = revision(&third, &a);
    assert_eq!(third.registry_revision(newest), third.registry.revision);
}

#[test]
fn a_view_that_nobody_asks_for_is_made_no_more() {
    let first = offer("a:1", None);
    first.of(Some(&globs("a")));
    let second = offer("a:2", Some(&first));
    assert_eq!(second.views().rendered.len(), 1, "its proxy will");
    let third = offer("a:3", Some(&second));
    assert_eq!(third.views().rendered.len(), 0, "its proxy is gone");
}
