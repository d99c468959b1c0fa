//! What is promised, case by case.

use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;

use super::subscription::{ERROR_MAX, NAMES_MAX, PENDING_MAX, WILDCARD};
use super::*;
use crate::xds::snapshot::Shelf;

mod gone;
mod refusals;
mod renewals;
mod shared;

/// A shelf of `name=content` words.
fn shelf(words: &str) -> Shelf {
    let resources = words.split_whitespace().map(|word| {
        let (name, content) = word.split_once('=').unwrap();
        let body = Any {
            type_url: String::new(),
            value: content.into(),
        };
        (name.into(), Arc::new(Resource::new(body)))
    });
    Shelf::new(resources.collect())
}

fn snapshot(clusters: &str, endpoints: &str, filters: &str) -> Snapshot {
    Snapshot {
        clusters: shelf(clusters),
        secrets: Shelf::default(),
        endpoints: shelf(endpoints),
        filters: shelf(filters),
    }
}

fn names(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

/// A stream and what it was sent last.
struct Proxy {
    session: Session,
    last: Vec<Answer>,
    now: Instant,
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy {
            session: Session::default(),
            last: Vec::new(),
            now: Instant::now(),
        }
    }
}

impl Proxy {
    /// A proxy that has asked for everything there is and has accepted it.
    fn settled(snapshot: &Snapshot) -> Self {
        let mut proxy = Proxy::default();
        proxy.asks(Kind::Clusters, "");
        proxy.asks(Kind::Endpoints, "a b");
        proxy.asks(Kind::Filters, "f");
        proxy.gets(snapshot);
        proxy.accepts();
        proxy
    }

    fn sends(&mut self, kind: Kind, request: Request) -> Option<Event> {
        self.session.on_request(kind, request, None).unwrap()
    }

    fn asks(&mut self, kind: Kind, subscribe: &str) {
        let subscribe = names(subscribe);
        let request = Request {
            subscribe,
            ..Default::default()
        };
        self.sends(kind, request);
    }

    fn leaves(&mut self, kind: Kind, unsubscribe: &str) {
        let unsubscribe = names(unsubscribe);
        let request = Request {
            unsubscribe,
            ..Default::default()
        };
        self.sends(kind, request);
    }

    /// Comes back with what it had from an earlier stream.
    fn returns(&mut self, kind: Kind, subscribe: &str, from: &Snapshot) {
        let has = from.shelf(kind).iter();
        let request = Request {
            subscribe: names(subscribe),
            initial: has
                .map(|(name, r)| (name.to_string(), r.version.to_string()))
                .collect(),
            ..Default::default()
        };
        self.sends(kind, request);
    }

    /// Everything that is sent now, one word per answer: `C:a,b` or with what is removed `C:a-b`.
    fn gets(&mut self, snapshot: &Snapshot) -> String {
        self.last.clear();
        while let Some(answer) = self.session.next(snapshot, self.now) {
            self.last.push(answer);
        }
        let words: Vec<String> = self.last.iter().map(word).collect();
        words.join(" ")
    }

    fn accepts(&mut self) {
        for answer in std::mem::take(&mut self.last) {
            let request = Request {
                nonce: answer.nonce,
                ..Default::default()
            };
            let version = answer.version;
            assert_eq!(
                self.sends(answer.kind, request),
                Some(Event::Acked { version })
            );
        }
    }
}

fn word(answer: &Answer) -> String {
    let kind = &format!("{:?}", answer.kind)[..1];
    let sent: Vec<&str> = answer.resources.iter().map(|(name, _)| &**name).collect();
    let gone: String = answer
        .removed
        .iter()
        .map(|name| format!("-{name}"))
        .collect();
    format!("{kind}:{}{gone}", sent.join(","))
}

#[test]
fn whom_a_cluster_trusts_comes_before_its_endpoints_and_what_is_missing_is_said() {
    let mut snapshot = snapshot("a=1", "a=1", "f=1");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Clusters, "");
    proxy.asks(Kind::Endpoints, "a");
    proxy.asks(Kind::Secrets, "/ca.pem");
    assert_eq!(proxy.gets(&snapshot), "C:a S:-/ca.pem E:a");
    proxy.accepts();
    // The file comes, and changes: the cluster stays as it is.
    for content in ["/ca.pem=1", "/ca.pem=2"] {
        snapshot.secrets = shelf(content);
        assert_eq!(proxy.gets(&snapshot), "S:/ca.pem");
        proxy.accepts();
        assert_eq!(proxy.gets(&snapshot), "");
    }
}

#[test]
fn first_answers_come_in_order_and_once() {
    let snapshot = snapshot("a=1 b=1", "a=1 b=1 c=1", "f=1 g=1");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f");
    proxy.asks(Kind::Endpoints, "b a");
    proxy.asks(Kind::Clusters, "");
    assert_eq!(proxy.gets(&snapshot), "C:a,b E:a,b F:f");
    assert_eq!(proxy.gets(&snapshot), "", "nothing is sent twice");
    proxy.accepts();
    assert_eq!(proxy.gets(&snapshot), "");
}

#[test]
fn nothing_is_sent_that_was_not_asked_for() {
    let snapshot = snapshot("a=1", "a=1", "f=1");
    let mut proxy = Proxy::default();
    assert_eq!(proxy.gets(&snapshot), "");
    // Saying nothing means everything for clusters alone.
    proxy.asks(Kind::Endpoints, "");
    proxy.asks(Kind::Filters, "");
    assert_eq!(proxy.gets(&snapshot), "");
    proxy.asks(Kind::Filters, "*");
    assert_eq!(proxy.gets(&snapshot), "F:f");
    let mut by_name = Proxy::default();
    by_name.asks(Kind::Clusters, "a");
    assert_eq!(by_name.gets(&self::snapshot("a=1 b=1", "", "")), "C:a");
}

#[test]
fn additions_end_with_the_filter_and_removals_begin_with_it() {
    let mut proxy = Proxy::settled(&snapshot("a=1", "a=1", "f=1"));
    let grown = snapshot("a=1 b=1", "a=2 b=1", "f=2");
    assert_eq!(proxy.gets(&grown), "C:b E:a,b F:f");
    proxy.accepts();
    let shrunk = snapshot("a=1", "a=3", "f=3");
    assert_eq!(proxy.gets(&shrunk), "E:a F:f C:-b E:-b");
    proxy.accepts();
    assert_eq!(proxy.gets(&shrunk), "");
}

#[test]
fn a_changed_cluster_gets_its_endpoints_again() {
    let mut proxy = Proxy::settled(&snapshot("a=1 b=1", "a=1 b=1", "f=1"));
    let changed = snapshot("a=2 b=1", "a=1 b=1", "f=1");
    assert_eq!(proxy.gets(&changed), "C:a E:a");
    proxy.accepts();
    assert_eq!(proxy.gets(&changed), "");
}

#[test]
fn a_cluster_that_changed_during_an_absence_gets_its_endpoints_again() {
    let before = snapshot("a=1 b=1", "a=1 b=1", "f=1");
    let after = snapshot("a=2 b=1", "a=1 b=1", "f=1");
    let mut proxy = Proxy::default();
    proxy.returns(Kind::Clusters, "", &before);
    assert_eq!(proxy.gets(&after), "C:a");
    proxy.returns(Kind::Endpoints, "a b", &before);
    assert_eq!(proxy.gets(&after), "E:a");
}

#[test]
fn a_returning_proxy_gets_only_what_it_lacks() {
    let before = snapshot("a=1 b=1", "a=1 b=1", "f=1");
    let mut same = Proxy::default();
    same.returns(Kind::Clusters, "", &before);
    same.returns(Kind::Endpoints, "a b", &before);
    same.returns(Kind::Filters, "f", &before);
    assert_eq!(same.gets(&before), "");

    let after = snapshot("a=1 c=1", "a=2 c=1", "f=2");
    let mut late = Proxy::default();
    late.returns(Kind::Clusters, "", &before);
    late.returns(Kind::Endpoints, "a b", &before);
    late.returns(Kind::Filters, "f", &before);
    assert_eq!(late.gets(&after), "C:c E:a F:f C:-b E:-b");
}

#[test]
fn a_missing_name_is_answered_as_removed_and_comes_when_it_is_there() {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f");
    proxy.asks(Kind::Endpoints, "a");
    assert_eq!(proxy.gets(&snapshot("", "", "")), "F:-f E:-a");
    assert_eq!(proxy.gets(&snapshot("", "", "")), "", "said once");
    assert_eq!(proxy.gets(&snapshot("", "a=1", "f=1")), "E:a F:f");
}

#[test]
fn asking_again_is_answered_again() {
    let snapshot = snapshot("a=1", "a=1 b=1", "f=1");
    let mut proxy = Proxy::settled(&snapshot);
    proxy.asks(Kind::Endpoints, "a");
    assert_eq!(proxy.gets(&snapshot), "E:a");
    proxy.asks(Kind::Endpoints, "nobody");
    assert_eq!(proxy.gets(&snapshot), "E:-nobody");
    proxy.asks(Kind::Endpoints, "nobody");
    assert_eq!(proxy.gets(&snapshot), "E:-nobody");
}

#[test]
fn what_was_unsubscribed_is_forgotten() {
    let snapshot = snapshot("a=1", "a=1 b=1", "f=1");
    let mut proxy = Proxy::settled(&snapshot);
    proxy.leaves(Kind::Endpoints, "b");
    proxy.leaves(Kind::Filters, "f");
    assert_eq!(
        proxy.gets(&self::snapshot("a=1", "a=1 b=2", "f=2")),
        "",
        "not of interest"
    );
    proxy.asks(Kind::Endpoints, "b");
    proxy.asks(Kind::Filters, "f");
    assert_eq!(proxy.gets(&snapshot), "E:b F:f");
}

#[test]
fn a_wildcard_covers_a_name_that_was_unsubscribed() {
    let snapshot = snapshot("a=1 b=1", "", "");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Clusters, "* a");
    assert_eq!(proxy.gets(&snapshot), "C:a,b");
    proxy.leaves(Kind::Clusters, "a");
    assert_eq!(
        proxy.gets(&snapshot),
        "C:a",
        "the answer says that it is still covered"
    );
    proxy.leaves(Kind::Clusters, "*");
    assert_eq!(proxy.gets(&self::snapshot("a=2 b=2", "", "")), "");
}

#[test]
fn a_stale_nonce_tells_nothing_but_its_names_count() {
    let snapshot = snapshot("a=1", "a=1 b=1", "f=1");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Endpoints, "a");
    proxy.gets(&snapshot);
    let stale = Request {
        nonce: "77".to_owned(),
        error: Some("no".to_owned()),
        subscribe: names("b"),
        ..Default::default()
    };
    assert_eq!(proxy.sends(Kind::Endpoints, stale), None);
    assert_eq!(proxy.gets(&snapshot), "E:b");
    assert_eq!(proxy.session.progress(Kind::Endpoints).unwrap().pending, 2);
    assert_eq!(
        proxy.session.progress(Kind::Filters),
        None,
        "never asked for"
    );
}

#[test]
fn a_proxy_that_judges_nothing_is_not_flooded() {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f");
    let mut answers = Vec::new();
    for round in 0..100 {
        proxy.gets(&snapshot("", "", &format!("f={round}")));
        answers.append(&mut proxy.last);
    }
    assert_eq!(answers.len(), PENDING_MAX);
    proxy.last = answers;
    proxy.accepts();
    assert_eq!(
        proxy.gets(&snapshot("", "", "f=100")),
        "F:f",
        "and then it gets the newest"
    );
}

#[test]
fn a_stream_cannot_ask_for_names_without_end() {
    let request = Request {
        subscribe: (0..=NAMES_MAX).map(|n| n.to_string()).collect(),
        ..Default::default()
    };
    let mut session = Session::default();
    assert_eq!(
        session.on_request(Kind::Endpoints, request, None),
        Err(TooManyNames)
    );
}
