//! What streams share, and that no stream gains or loses anything by it.

use proptest::prelude::*;

use super::*;

#[test]
fn what_a_stream_has_is_the_shelfs_own_memory() {
    let snapshot = snapshot("a=1 b=1", "a=1 b=1", "f=1");
    let shelf = &snapshot.endpoints;
    for _ in 0..2 {
        let mut proxy = Proxy::default();
        let request = Request {
            subscribe: names("b a"),
            ..Default::default()
        };
        proxy
            .session
            .on_request(Kind::Endpoints, request, Some(&snapshot))
            .unwrap();
        assert_eq!(proxy.gets(&snapshot), "E:a,b");
        let endpoints = &proxy.session.endpoints;
        assert!(Arc::ptr_eq(&endpoints.has, shelf.versions()));
        for ((on_shelf, _), kept) in shelf.iter().zip(&endpoints.names) {
            assert!(Arc::ptr_eq(on_shelf, kept), "{kept}");
        }
    }
}

#[test]
fn a_wildcard_that_comes_later_brings_what_was_not_asked_for() {
    let snapshot = snapshot("", "a=1 b=1", "");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Endpoints, "a");
    assert_eq!(proxy.gets(&snapshot), "E:a");
    proxy.asks(Kind::Endpoints, "*");
    assert_eq!(proxy.gets(&snapshot), "E:b");
}

#[derive(Debug, Clone)]
enum Step {
    Asks(String),
    Leaves(String),
    Returns,
    Serves(Vec<(String, u8)>),
    Gets,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || "[abc*]";
    let shelf = prop::collection::btree_map("[abc]", 0..3_u8, 0..4);
    prop_oneof![
        name().prop_map(Step::Asks),
        name().prop_map(Step::Leaves),
        Just(Step::Returns),
        shelf.prop_map(|shelf| Step::Serves(shelf.into_iter().collect())),
        Just(Step::Gets),
    ]
}

/// A proxy that keeps what it is sent, as Envoy does.
#[derive(Default)]
struct Keeper {
    proxy: Proxy,
    asked: BTreeSet<String>,
    has: BTreeMap<String, String>,
}

impl Keeper {
    fn covers(&self, name: &str) -> bool {
        self.asked.contains(name) || self.asked.contains(WILDCARD)
    }

    fn gets(&mut self, snapshot: &Snapshot) {
        self.proxy.gets(snapshot);
        for answer in &self.proxy.last {
            for (name, resource) in &answer.resources {
                self.has
                    .insert(name.to_string(), resource.version.to_string());
            }
            for name in &answer.removed {
                self.has.remove(name);
            }
        }
        self.proxy.accepts();
    }

    fn takes(&mut self, step: &Step, snapshot: &Snapshot) {
        match step {
            Step::Asks(name) => {
                self.asked.insert(name.clone());
                self.proxy.asks(Kind::Endpoints, name);
            }
            Step::Leaves(name) => {
                self.asked.remove(name);
                self.proxy.leaves(Kind::Endpoints, name);
                let kept = std::mem::take(&mut self.has).into_iter();
                let kept: Vec<_> = kept.filter(|(name, _)| self.covers(name)).collect();
                self.has = kept.into_iter().collect();
            }
            Step::Returns => {
                self.proxy = Proxy::default();
                let request = Request {
                    subscribe: self.asked.iter().cloned().collect(),
                    initial: self.has.clone(),
                    ..Default::default()
                };
                self.proxy.sends(Kind::Endpoints, request);
            }
            Step::Gets => self.gets(snapshot),
            Step::Serves(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_and_served_a_proxy_ends_with_what_is_there(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut keeper = Keeper::default();
        // Only the first message of a stream could mean "everything" by saying nothing.
        keeper.takes(&Step::Asks("a".to_owned()), &Snapshot::default());
        let mut served = snapshot("", "", "");
        for step in &steps {
            if let Step::Serves(shelf) = step {
                let words = shelf.iter().map(|(name, content)| format!("{name}={content}"));
                served = snapshot("", &words.collect::<Vec<_>>().join(" "), "");
            }
            keeper.takes(step, &served);
        }
        keeper.gets(&served);
        let due = served.endpoints.iter().filter(|(name, _)| keeper.covers(name));
        let due: BTreeMap<String, String> = due
            .map(|(name, resource)| (name.to_string(), resource.version.to_string()))
            .collect();
        prop_assert_eq!(keeper.has, due);
        prop_assert_eq!(keeper.proxy.gets(&served), "", "and is sent no more");
    }
}
