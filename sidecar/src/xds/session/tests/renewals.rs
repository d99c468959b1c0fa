//! A proxy comes back to a sidecar that renders clusters in another way.

use super::super::renewal::{AT_A_TIME, EVERY};
use super::*;

/// So many clusters of one content, and one more that never changes.
fn clusters(count: usize, content: &str) -> Snapshot {
    let words = (0..count).map(|it| format!("c{it:03}={content}"));
    let words = words.collect::<Vec<_>>().join(" ") + " same=1";
    snapshot(&words, &words, "")
}

/// How many resources of a kind were sent last.
fn sent(proxy: &Proxy, kind: Kind) -> usize {
    let answers = proxy.last.iter().filter(|answer| answer.kind == kind);
    answers.map(|answer| answer.resources.len()).sum()
}

fn returned(before: &Snapshot) -> Proxy {
    let mut proxy = Proxy::default();
    proxy.returns(Kind::Clusters, "", before);
    let names = before.endpoints.iter().map(|(name, _)| &**name);
    let names = names.collect::<Vec<_>>().join(" ");
    proxy.returns(Kind::Endpoints, &names, before);
    proxy
}

#[test]
fn in_no_second_more_than_50_are_renewed_with_their_endpoints() {
    let (before, after) = (clusters(1000, "old"), clusters(1000, "new"));
    let mut proxy = returned(&before);
    let start = proxy.now;
    proxy.gets(&after);
    assert_eq!(sent(&proxy, Kind::Clusters), AT_A_TIME);
    assert_eq!(
        sent(&proxy, Kind::Endpoints),
        1000,
        "no connection ends by them"
    );
    proxy.accepts();
    let mut renewed = AT_A_TIME;
    while let Some(wake) = proxy.session.wake() {
        proxy.now = wake - Duration::from_nanos(1);
        assert_eq!(proxy.gets(&after), "");
        proxy.now = wake;
        proxy.gets(&after);
        let (clusters, warm) = (sent(&proxy, Kind::Clusters), sent(&proxy, Kind::Endpoints));
        assert_eq!((clusters, warm), (AT_A_TIME, AT_A_TIME));
        proxy.accepts();
        renewed += clusters;
    }
    assert_eq!(renewed, 1000);
    assert_eq!(proxy.now - start, 99 * EVERY);
    let in_a_second = Duration::from_secs(1).div_duration_f64(EVERY) as usize + 1;
    assert!(in_a_second * AT_A_TIME <= 50);
    assert_eq!(proxy.gets(&after), "");
}

#[test]
fn what_is_new_or_edited_or_gone_does_not_wait_with_them() {
    let before = clusters(30, "old");
    let mut proxy = returned(&before);
    let with_new = snapshot(&(words(&clusters(30, "new").clusters) + " z=1"), "", "");
    proxy.gets(&with_new);
    assert_eq!(
        sent(&proxy, Kind::Clusters),
        AT_A_TIME + 1,
        "and the new one"
    );
    // c029 is edited and c028 goes, before their turn.
    let edited = words(&with_new.clusters)
        .replace("c029=new", "c029=edited")
        .replace("c028=new ", "");
    let edited = snapshot(&edited, "", "");
    assert_eq!(proxy.gets(&edited), "C:c029 C:-c028");
    let mut turns = Vec::new();
    while let Some(wake) = proxy.session.wake() {
        proxy.now = wake;
        turns.push(proxy.gets(&edited));
    }
    let renewed = turns.iter().map(|turn| turn.matches("c0").count());
    assert_eq!(renewed.clone().sum::<usize>(), 18, "{turns:?}");
    assert!(renewed.max() <= Some(AT_A_TIME));
    assert!(!turns.concat().contains("c029"), "it has been sent");
}

/// A shelf as the words that make it.
fn words(shelf: &Shelf) -> String {
    let words = shelf.iter().map(|(name, resource)| {
        let content = String::from_utf8_lossy(&resource.body);
        format!("{name}={content}")
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_proxy_that_comes_for_the_first_time_gets_all_at_once() {
    let mut proxy = Proxy::default();
    proxy.asks(Kind::Clusters, "");
    proxy.gets(&clusters(100, "new"));
    assert_eq!(sent(&proxy, Kind::Clusters), 101);
    assert_eq!(proxy.session.wake(), None);
}
