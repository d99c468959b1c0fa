use proptest::prelude::*;

use super::*;

/// A filter's side: applies answers as the exchange describes them.
#[derive(Default)]
struct Client {
    have: Version,
    unhealthy: Unhealthy,
}

impl Client {
    /// Polls once; returns whether the answer was full, if there was one.
    fn poll(&mut self, table: &Verdicts) -> Option<bool> {
        let answer = table.answer(self.have)?;
        if answer.full {
            self.unhealthy.clear();
        }
        for cluster in &answer.clusters {
            let name = Arc::from(cluster.name.as_str());
            let keys = self.unhealthy.entry(name).or_default();
            let keys = Arc::make_mut(keys);
            keys.retain(|key| !cluster.healthy.contains(key));
            keys.extend(&cluster.unhealthy);
        }
        self.unhealthy.retain(|_, keys| !keys.is_empty());
        self.have = answer.version;
        Some(answer.full)
    }
}

fn table() -> Verdicts {
    let mut table = Verdicts::new(7);
    table.replace(1, Unhealthy::new(), |_| BTreeSet::new());
    table
}

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

#[test]
fn a_filter_that_follows_gets_only_what_changed() {
    let (mut table, mut client) = (table(), Client::default());
    assert_eq!(client.poll(&table), Some(true), "it had nothing");
    assert_eq!(client.poll(&table), None, "nothing is news");
    table.set(&name("a"), BackendKey(1), true);
    table.set(&name("a"), BackendKey(2), true);
    assert_eq!(client.poll(&table), Some(false));
    table.set(&name("a"), BackendKey(1), false);
    let answer = table.answer(client.have).expect("news");
    assert_eq!(answer.clusters[0].healthy, [BackendKey(1)]);
    assert!(answer.clusters[0].unhealthy.is_empty());
}

#[test]
fn a_set_that_changes_nothing_is_no_news() {
    let (mut table, mut client) = (table(), Client::default());
    table.set(&name("a"), BackendKey(1), true);
    client.poll(&table);
    table.set(&name("a"), BackendKey(1), true);
    table.set(&name("b"), BackendKey(1), false);
    assert_eq!(client.poll(&table), None);
}

#[test]
fn every_mismatch_of_versions_is_answered_in_full() {
    let mut table = table();
    table.set(&name("a"), BackendKey(1), true);
    table.set(&name("a"), BackendKey(2), true);
    let now = table.version();
    let counter = now.counter - 1;
    assert!(
        !table
            .answer(Version { counter, ..now })
            .expect("delta")
            .full
    );
    for have in [
        Version::default(),
        Version { epoch: 8, ..now },
        Version { revision: 2, ..now },
        Version {
            epoch: 8,
            counter,
            ..now
        },
        Version {
            revision: 2,
            counter,
            ..now
        },
        Version {
            counter: now.counter + 1,
            ..now
        },
        Version { counter: 0, ..now },
        Version {
            counter: u64::MAX,
            ..now
        },
    ] {
        assert!(table.answer(have).expect("an answer").full, "{have:?}");
    }
}

#[test]
fn a_filter_that_is_far_behind_gets_the_full_set_and_the_history_stays_bounded() {
    let (mut table, mut client) = (table(), Client::default());
    client.poll(&table);
    for _ in 0..HISTORY_MAX {
        table.set(&name("a"), BackendKey(1), true);
        table.set(&name("a"), BackendKey(1), false);
    }
    assert_eq!(table.history.len(), HISTORY_MAX);
    assert_eq!(client.poll(&table), Some(true));
    let counter = table.version().counter - HISTORY_MAX as u64;
    let behind = Version {
        counter,
        ..table.version()
    };
    assert!(
        !table.answer(behind).expect("an answer").full,
        "the last that can follow"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Flip {
        cluster: u8,
        key: u64,
        unhealthy: bool,
    },
    Replace {
        revision: u64,
        keys: Vec<u64>,
    },
    Restart {
        epoch: u64,
    },
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..3, 0_u64..4, any::<bool>())
            .prop_map(|(cluster, key, unhealthy)| Step::Flip { cluster, key, unhealthy }),
        1 => (1_u64..4, prop::collection::vec(0_u64..4, 0..4))
            .prop_map(|(revision, keys)| Step::Replace { revision, keys }),
        1 => (1_u64..9).prop_map(|epoch| Step::Restart { epoch }),
        4 => Just(Step::Poll),
    ]
}

proptest! {
    #[test]
    fn a_client_that_applies_the_answers_always_ends_with_the_table(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (mut table, mut client) = (table(), Client::default());
        let mut epochs = 100;
        for step in steps {
            match step {
                Step::Flip { cluster, key, unhealthy } => {
                    table.set(&name(&format!("c{cluster}")), BackendKey(key), unhealthy);
                }
                Step::Replace { revision, keys } => {
                    let keys: BTreeSet<BackendKey> = keys.into_iter().map(BackendKey).collect();
                    let mut unhealthy = Unhealthy::from([(name("c0"), Arc::new(keys))]);
                    unhealthy.retain(|_, keys| !keys.is_empty());
                    table.replace(revision, unhealthy, |_| BTreeSet::from([0, 1].map(BackendKey)));
                }
                Step::Restart { epoch } => {
                    epochs += epoch;
                    table = Verdicts::new(epochs);
                    table.replace(1, Unhealthy::new(), |_| BTreeSet::new());
                }
                Step::Poll => {
                    client.poll(&table);
                    prop_assert_eq!(&client.unhealthy, &table.unhealthy);
                }
            }
        }
        client.poll(&table);
        prop_assert_eq!(&client.unhealthy, &table.unhealthy);
        prop_assert_eq!(client.have, table.version());
    }
}
