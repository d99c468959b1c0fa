//! Clusters that are taken over from an earlier configuration are as those compiled anew.

use std::rc::Rc;

use pointsman_filter::base::hash;
use pointsman_filter::cluster::load::Loads;
use pointsman_filter::cluster::snapshot::Snapshot;
use pointsman_filter::config::ConfigErrors;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::runs;
use crate::world::NOW;

/// By which clusters begin their turns.
const SEED: u64 = 7;

/// An edit of a container; its numbers choose what and where.
#[derive(Debug, Clone)]
enum Edit {
    /// Adds a cluster of this name, which may stand there already.
    Add(&'static str),
    Remove(Index),
    /// Puts a cluster in front.
    Move(Index),
    /// Sets a field of a cluster to a value, which may be wrong.
    Set(Index, (&'static str, Value)),
    /// Sets the container's number.
    Schema(u64),
}

fn an_edit() -> impl Strategy<Value = Edit> {
    let fields = vec![
        ("name", json!("c")),
        ("name", json!("c:")),
        ("http2", json!(true)),
        ("http2", json!(7)),
        ("news", json!({"a": 1})),
        ("loadBalancing", json!({"policy": "RoundRobin"})),
        ("loadBalancing", json!({"policy": "Newest", "news": 1})),
        ("sticky", json!({})),
        (
            "backends",
            json!([{"address": "10.0.0.9:80"}, {"address": "10.0.0.8:80", "weight": 0}]),
        ),
        (
            "backends",
            json!([{"address": "10.0.0.9:80"}, {"address": "10.0.0.9:80"}]),
        ),
    ];
    prop_oneof![
        3 => select(vec!["a", "b", "c", "d"]).prop_map(Edit::Add),
        1 => any::<Index>().prop_map(Edit::Remove),
        1 => any::<Index>().prop_map(Edit::Move),
        4 => (any::<Index>(), select(fields)).prop_map(|(at, field)| Edit::Set(at, field)),
        1 => (1u64..4).prop_map(Edit::Schema),
    ]
}

/// The clusters of a container, and its number.
struct Container(Vec<Value>, u64);

impl Container {
    fn edit(&mut self, edit: &Edit) {
        let Container(clusters, schema) = self;
        let place = |at: &Index, clusters: &[Value]| {
            (!clusters.is_empty()).then(|| at.index(clusters.len()))
        };
        match edit {
            Edit::Schema(number) => *schema = *number,
            Edit::Add(name) => clusters.push(json!({"name": name, "backends": [
                {"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80", "id": name},
            ]})),
            Edit::Remove(at) => drop(place(at, clusters).map(|at| clusters.remove(at))),
            Edit::Move(at) => {
                if let Some(moved) = place(at, clusters).map(|at| clusters.remove(at)) {
                    clusters.insert(0, moved);
                }
            }
            Edit::Set(at, (name, value)) => {
                if let Some(at) = place(at, clusters) {
                    clusters[at][*name] = value.clone();
                }
            }
        }
    }

    fn to_json(&self) -> String {
        let Container(clusters, schema) = self;
        let revision = hash::hex(hash::text_key(format!("{clusters:?}").as_bytes()));
        json!({"schema": schema, "revision": revision, "clusters": clusters}).to_string()
    }
}

fn compile(json: &str, living: &[Rc<Snapshot>]) -> Result<Snapshot, ConfigErrors> {
    let mut loads = Loads::default();
    loads.come_new = true;
    Snapshot::compile(json.as_bytes(), living, &mut loads, NOW, SEED)
}

/// All of it; where documents stand among the others is the map's own business.
fn shown(snapshot: &Snapshot) -> String {
    format!("{snapshot:?}")
}

proptest! {
    #![proptest_config(runs(500))]

    #[test]
    fn what_is_taken_over_is_as_what_is_compiled_anew(edits in vec(an_edit(), 1..30)) {
        let mut container = Container(Vec::new(), 1);
        let mut living: Vec<Rc<Snapshot>> = Vec::new();
        for edit in &edits {
            container.edit(edit);
            let json = container.to_json();
            match (compile(&json, &living), compile(&json, &[])) {
                (Ok(taken_over), Ok(anew)) => {
                    prop_assert_eq!(shown(&taken_over), shown(&anew));
                    living.insert(0, Rc::new(taken_over));
                    living.truncate(2);
                }
                (Err(taken_over), Err(anew)) => prop_assert_eq!(taken_over, anew),
                (taken_over, anew) => {
                    let (kept, anew) = (taken_over.err(), anew.err());
                    prop_assert!(false, "{:?} where due is {:?}", kept, anew);
                }
            }
        }
    }
}

#[test]
fn an_unchanged_cluster_is_the_same_one_and_a_changed_one_is_not() {
    let names = ["a", "b", "c"];
    let mut container = Container(Vec::new(), 1);
    names
        .iter()
        .for_each(|name| container.edit(&Edit::Add(name)));
    let before = Rc::new(compile(&container.to_json(), &[]).unwrap());
    container.0[1]["http2"] = json!(true);
    let after = compile(&container.to_json(), std::slice::from_ref(&before)).unwrap();
    let changed: Vec<&str> = after.not_shared_with(&before).map(|it| &*it.name).collect();
    assert_eq!(changed, ["b"]);
    container.1 = 2;
    let newer = compile(&container.to_json(), &[Rc::new(after)]).unwrap();
    let count = newer.not_shared_with(&before).count();
    assert_eq!(count, names.len(), "another number reads another document");
}
