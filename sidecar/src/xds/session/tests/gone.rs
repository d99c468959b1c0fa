//! What goes while something else is still to be sent: it is told once, and to nobody who did not ask.

use super::*;

/// A proxy with these endpoints that is sent a change of `a` while the others go, and has not been told so.
fn before_it_is_told(subscribe: &str) -> (Proxy, Snapshot) {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Endpoints, subscribe);
    proxy.gets(&snapshot("", "a=1 b=1 c=1", ""));
    let after = snapshot("", "a=2", "");
    let answer = proxy.session.next(&after, proxy.now);
    assert_eq!(answer.as_ref().map(word).as_deref(), Some("E:a"));
    (proxy, after)
}

#[test]
fn all_that_went_is_told_with_what_went_before_it() {
    let (mut proxy, after) = before_it_is_told("a b c");
    assert_eq!(proxy.gets(&after), "E:-b-c");
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Endpoints, "a b c");
    proxy.gets(&snapshot("", "a=1 b=1 c=1", ""));
    for shelf in ["a=2 b=1", "a=3"] {
        let answer = proxy.session.next(&snapshot("", shelf, ""), proxy.now);
        assert_eq!(answer.as_ref().map(word).as_deref(), Some("E:a"));
    }
    assert_eq!(proxy.gets(&snapshot("", "a=3", "")), "E:-b-c");
}

#[test]
fn what_came_back_before_it_was_told_is_not_gone() {
    let (mut proxy, _) = before_it_is_told("a b c");
    assert_eq!(proxy.gets(&snapshot("", "a=2 b=1", "")), "E:b E:-c");
}

#[test]
fn what_is_wanted_no_more_is_not_told_of() {
    let (mut proxy, after) = before_it_is_told("a b c");
    proxy.leaves(Kind::Endpoints, "b");
    assert_eq!(proxy.gets(&after), "E:-c");
    let (mut proxy, after) = before_it_is_told("a * b");
    proxy.leaves(Kind::Endpoints, "*");
    assert_eq!(proxy.gets(&after), "E:-b");
    let (mut proxy, after) = before_it_is_told("a c");
    assert_eq!(proxy.gets(&after), "E:-c", "it never asked for b");
}

#[test]
fn filters_that_change_together_are_sent_one_after_the_other() {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f g");
    for content in [1, 2] {
        let both = snapshot("", "", &format!("f={content} g={content}"));
        assert_eq!(proxy.gets(&both), "F:f F:g");
    }
}
