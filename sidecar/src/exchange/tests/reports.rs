//! What posts report.

use super::*;

#[test]
fn a_refused_configuration_is_an_event_once_for_each_revision() {
    let fleet = watch::Sender::new(Fleet::default());
    let mut seen = fleet.subscribe();
    let now = Instant::now();
    let with = |refused: Option<u64>| wire::Request {
        rejected: refused.map(|revision| Rejection {
            revision,
            reason: "bad".to_owned(),
        }),
        ..request(Version::default())
    };
    let mut said = Vec::new();
    for refused in [None, Some(3), Some(3), Some(4), Some(4), None, Some(4)] {
        said.push(
            crate::fleet::take(&fleet, with(refused), now)
                .event
                .is_some(),
        );
    }
    assert_eq!(said, [false, true, false, true, false, false, true]);
    seen.mark_unchanged();
    crate::fleet::take(&fleet, with(Some(4)), now);
    assert!(
        !seen.has_changed().expect("the sender lives"),
        "the same again wakes nobody"
    );
}

#[test]
fn the_nodes_are_bounded() {
    let fleet = watch::Sender::new(Fleet::default());
    for number in 0..5_000 {
        let node = format!("edge-{number}");
        let request = wire::Request {
            node,
            ..request(Version::default())
        };
        crate::fleet::take(&fleet, request, Instant::now());
    }
    assert_eq!(fleet.borrow().nodes.len(), 1024);
    let fleet = watch::Sender::new(Fleet::default());
    for process in 0..5_000 {
        let request = wire::Request {
            process: Some(process),
            ..request(Version::default())
        };
        crate::fleet::take(&fleet, request, Instant::now());
    }
    assert_eq!(fleet.borrow().reports().count(), 1024);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_for_30_seconds_is_dropped() {
    let fleet = watch::Sender::new(Fleet::default());
    let stop = CancellationToken::new();
    crate::fleet::take(&fleet, request(Version::default()), Instant::now());
    let dropping = tokio::spawn(crate::fleet::drop_silent(fleet.clone(), stop.clone()));
    let asked = Instant::now();
    let mut seen = fleet.subscribe();
    seen.wait_for(|fleet| fleet.nodes.is_empty())
        .await
        .expect("the sender lives");
    let silent = asked.elapsed().as_secs();
    assert!((30..=32).contains(&silent), "{silent} s");
    stop.cancel();
    dropping.await.expect("it ends");
}
