//! What a proxy refuses.

use super::*;

#[test]
fn a_refused_version_is_not_sent_again_until_its_content_changes() {
    let mut proxy = Proxy::settled(&snapshot("a=1", "a=1", "f=1"));
    let bad = snapshot("a=1 c=1", "a=1", "f=bad");
    assert_eq!(proxy.gets(&bad), "C:c F:f");
    let refused = proxy.last.pop().unwrap();
    proxy.accepts();
    let request = Request {
        nonce: refused.nonce,
        error: Some("no".to_owned()),
        ..Default::default()
    };
    let nack = Nack {
        resource: Some("f".into()),
        version: refused.version,
        error: "no".to_owned(),
    };
    assert_eq!(
        proxy.sends(Kind::Filters, request),
        Some(Event::Nacked(nack.clone()))
    );
    assert_eq!(proxy.gets(&bad), "");
    let progress = proxy.session.progress(Kind::Filters).unwrap();
    assert_eq!((progress.nacked, progress.pending), (Some(nack), 0));
    assert!(
        progress.acked.is_some(),
        "the version before is still accepted"
    );

    let good = snapshot("a=1 c=1", "a=1", "f=3");
    assert_eq!(proxy.gets(&good), "F:f");
    proxy.accepts();
    assert_eq!(proxy.session.progress(Kind::Filters).unwrap().nacked, None);
}

#[test]
fn a_refusal_is_kept_with_a_bounded_text() {
    let mut subscription = Subscription::default();
    subscription.pending.push_back(Sent {
        nonce: "1".to_owned(),
        version: "v".to_owned(),
        filter: None,
    });
    let words = format!("{}é", "x".repeat(ERROR_MAX - 1));
    let event = subscription.on_nonce("1", Some(words));
    let Some(Event::Nacked(nack)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(nack.error, "x".repeat(ERROR_MAX - 1));
    assert_eq!(subscription.nacked, [nack]);
}

/// A proxy refuses an answer as a whole, so each role of the module has its own.
#[test]
fn one_roles_refusal_neither_holds_back_nor_is_ended_by_the_other() {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f f-upstream");
    assert_eq!(
        proxy.gets(&snapshot("", "", "f=bad f-upstream=1")),
        "F:f F:f-upstream"
    );
    refuses_first(&mut proxy);
    proxy.accepts();
    let progress = proxy.session.progress(Kind::Filters).unwrap();
    assert!(progress.nacked.is_some() && progress.acked.is_none());
    assert_eq!(proxy.gets(&snapshot("", "", "f=2 f-upstream=1")), "F:f");
    proxy.accepts();
    let progress = proxy.session.progress(Kind::Filters).unwrap();
    assert!(progress.nacked.is_none() && progress.acked.is_some());
}

fn refuses_first(proxy: &mut Proxy) {
    let request = Request {
        nonce: proxy.last.remove(0).nonce,
        error: Some("no".to_owned()),
        ..Default::default()
    };
    proxy.sends(Kind::Filters, request);
}

#[test]
fn the_refusal_of_one_role_hides_none_of_the_other() {
    let refused = |proxy: &Proxy| {
        let nacked = proxy.session.progress(Kind::Filters).unwrap().nacked;
        nacked.and_then(|nack| nack.resource)
    };
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Filters, "f f-upstream");
    proxy.gets(&snapshot("", "", "f=bad f-upstream=bad"));
    proxy.last.swap(0, 1);
    refuses_first(&mut proxy);
    assert_eq!(refused(&proxy).as_deref(), Some("f-upstream"));
    refuses_first(&mut proxy);
    let mended = snapshot("", "", "f=2 f-upstream=bad");
    assert_eq!(proxy.gets(&mended), "F:f");
    proxy.accepts();
    assert_eq!(refused(&proxy).as_deref(), Some("f-upstream"));
    assert_eq!(
        proxy.gets(&snapshot("", "", "f=2 f-upstream=2")),
        "F:f-upstream"
    );
    proxy.accepts();
    assert_eq!(refused(&proxy), None);
}
