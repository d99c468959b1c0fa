//! Rules of buckets: how fast they fill, what is owed, what a clock does to them.

use super::*;
use crate::base::hash::{BackendKey, LoadKey};
use crate::config::RateLimit;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SECOND: u64 = 1_000_000_000;
const NOW: WallTime = WallTime::from_ns(1_000_000 * SECOND);

fn quota(name: u64, per_second: u32, burst: u32) -> Quota {
    Quota::new(LoadKey(name), RateLimit { per_second, burst })
}

/// Takes tokens for as long as there are some; how many that were.
fn drain(record: &mut Vec<u8>, quota: &Quota, now: WallTime) -> usize {
    let mut count = 0;
    while Buckets::read(record, now).wait_ns(quota) == 0 {
        *record = Buckets::read(record, now).take(quota);
        count += 1;
    }
    count
}

fn wait(record: &[u8], quota: &Quota, now: WallTime) -> u64 {
    Buckets::read(record, now).wait_ns(quota)
}

#[test]
fn rl_1_a_burst_at_once_then_one_by_one() {
    let (quota, mut record) = (quota(1, 5, 10), Vec::new());
    assert_eq!(drain(&mut record, &quota, NOW), 10);
    assert_eq!(wait(&record, &quota, NOW), SECOND / 5);
    assert_eq!(wait(&record, &quota, NOW.plus(SECOND / 5 - 1)), 1);
    let mut taken = 0;
    for milli in 1..=20_000 {
        taken += drain(&mut record, &quota, NOW.plus(milli * SECOND / 1000));
    }
    assert_eq!(taken, 100, "5 per second over 20 s");
    assert_eq!(drain(&mut record, &quota, NOW.plus(21 * SECOND)), 5);
    assert_eq!(
        drain(&mut record, &quota, NOW.plus(99 * SECOND)),
        10,
        "no more are kept"
    );
}

#[test]
fn ad_6_a_new_bucket_is_full_and_stands_nowhere() {
    let (old, new) = (quota(1, 5, 10), quota(2, 5, 3));
    let mut record = Vec::new();
    drain(&mut record, &old, NOW);
    let one = record.len();
    assert_eq!(drain(&mut record, &new, NOW), 3);
    assert_eq!(record.len(), one + ENTRY);
    // Both are full again; the next change forgets the one that nothing is taken from.
    let later = NOW.plus(9 * SECOND);
    record = Buckets::read(&record, later).take(&quota(3, 5, 10));
    assert_eq!(record.len(), one);
}

#[test]
fn rl_8_a_bucket_outlives_everything_but_a_change_of_its_limit() {
    let mut record = Vec::new();
    drain(&mut record, &quota(1, 5, 10), NOW);
    assert!(wait(&record, &quota(1, 5, 10), NOW) > 0);
    for changed in [quota(1, 6, 10), quota(1, 5, 11), quota(2, 5, 10)] {
        let mut record = record.clone();
        let burst = changed.limit.burst as usize;
        assert_eq!(drain(&mut record, &changed, NOW), burst);
        assert!(
            wait(&record, &quota(1, 5, 10), NOW) > 0,
            "a worker that runs the old one"
        );
    }
}

#[test]
fn rl_1_a_burst_can_be_owed_and_no_more() {
    let (quota, mut record) = (quota(1, 5, 4), Vec::new());
    drain(&mut record, &quota, NOW);
    for owed in 1..=10 {
        assert_eq!(
            Buckets::read(&record, NOW).has_credit(&quota),
            owed <= 4,
            "{owed}"
        );
        record = Buckets::read(&record, NOW).take(&quota);
        assert_eq!(wait(&record, &quota, NOW), (1 + owed.min(4)) * SECOND / 5);
    }
}

#[test]
fn a_clock_that_steps_neither_empties_nor_freezes_a_bucket() {
    let hour = 3600 * SECOND;
    // A burst takes longer than the clock steps.
    let (quota, mut record) = (quota(1, 1, 10_000), Vec::new());
    for _ in 0..10 {
        record = Buckets::read(&record, NOW).take(&quota);
    }
    for (now, tokens, later) in [
        (NOW.plus(hour), 10_000, SECOND),
        (WallTime::from_ns(NOW.ns() - hour), 10_000, SECOND),
        // Another worker's reading, or a step that is hardly one: no token comes, none goes.
        (WallTime::from_ns(NOW.ns() - SECOND), 9_990, 2 * SECOND),
    ] {
        let mut record = record.clone();
        assert_eq!(drain(&mut record, &quota, now), tokens);
        assert_eq!(drain(&mut record, &quota, now.plus(later)), 1);
    }
    drain(&mut record, &quota, NOW);
    let back = WallTime::from_ns(NOW.ns() - hour);
    assert_eq!(
        wait(&record, &quota, back),
        0,
        "full: nobody knows how long ago it was emptied"
    );
    record = Buckets::read(&record, back).take(&quota);
    assert_eq!(
        drain(&mut record, &quota, back),
        9_999,
        "and from there on as ever"
    );
}

/// What tells a step from a record of long ago is when it was written last, not when it was begun.
#[test]
fn a_bucket_that_is_written_of_again_knows_when() {
    let hour = 3600 * SECOND;
    let (quota, later) = (quota(1, 1, 10_000), NOW.plus(2 * hour));
    let mut record = Buckets::read(&[], NOW).at_cost(10_000).take(&quota);
    record = Buckets::read(&record, later).at_cost(7000).take(&quota);
    let back = WallTime::from_ns(later.ns() - hour);
    let wait = |at| Buckets::read(&record, at).at_cost(10_000).wait_ns(&quota);
    assert!(wait(later) > 0);
    assert_eq!(
        wait(back),
        0,
        "full: nobody knows how long ago it was emptied"
    );
}

#[test]
fn the_corrupt_and_the_impossible_are_full() {
    let (quota, mut record) = (quota(1, 5, 10), Vec::new());
    drain(&mut record, &quota, NOW);
    let mut other = record.clone();
    other[0] = 9;
    let mut far = record.clone();
    let end = far.len();
    far[end - 8..].copy_from_slice(&u64::MAX.to_le_bytes());
    for bad in [&record[..record.len() - 1], &record[1..], &[], &other, &far] {
        let mut bad = bad.to_vec();
        assert_eq!(drain(&mut bad, &quota, NOW), 10);
        assert_eq!(bad.len(), record.len());
    }
}

#[test]
fn what_a_newer_module_appends_stays() {
    let quotas = [quota(1, 5, 10), quota(2, 5, 10)];
    let size = ENTRY + 4;
    let mut fields = record::numbers(&[NOW.ns()]);
    fields.extend_from_slice(&u16::try_from(size).unwrap().to_le_bytes());
    let mut record = record::create(VERSION, &fields, 0);
    let full_at = NOW.plus(2 * SECOND).ns();
    record.extend_from_slice(&record::numbers(&[quotas[0].key.0, full_at]));
    record.extend_from_slice(b"more");
    for quota in &quotas {
        record = Buckets::read(&record, NOW).take(quota);
    }
    let (_, entries) = open(&record).unwrap();
    assert_eq!((entries.size(), entries.len()), (size, 2));
    assert!(record.windows(4).any(|bytes| bytes == b"more"));
    assert!(
        quotas.iter().all(|it| entries.find(it.key).is_ok()),
        "in order"
    );
}

/// How many tokens one of so many workers takes in advance.
fn ahead(record: &[u8], quota: &Quota, workers: u32) -> u32 {
    Buckets::read(record, NOW).ahead(quota, workers)
}

#[test]
fn rl_1_a_worker_takes_few_tokens_in_advance_of_those_that_are_left() {
    let (large, mut record) = (quota(1, 5, 200), Vec::new());
    // The request's own is not among them: one in 16 of 199, shared by the workers.
    for (workers, tokens) in [(1, 12), (2, 6), (4, 3), (12, 1), (16, 0), (0, 12)] {
        assert_eq!(ahead(&[], &large, workers), tokens, "{workers} workers");
    }
    assert_eq!(ahead(&[], &quota(1, 5, 1_000_000), 1), 32);
    assert_eq!(ahead(&[], &quota(1, 5, 16), 1), 0, "a small one has none");
    for left in (0..200).rev() {
        record = Buckets::read(&record, NOW).take(&large);
        let most = u64::from(ahead(&record, &large, 2)) * 2 * 16;
        assert!(most <= left, "{most} of {left}");
    }
    record = Buckets::read(&record, NOW).take(&large);
    assert_eq!(ahead(&record, &large, 1), 0, "of one in debt");
}

#[test]
fn rl_1_tokens_that_are_given_back_are_there_again() {
    let (one, other, mut record) = (quota(1, 5, 200), quota(2, 5, 200), Vec::new());
    for quota in [&one, &other] {
        record = Buckets::read(&record, NOW).at_cost(50).take(quota);
    }
    let give = |record: &[u8], count: u32, at: WallTime| {
        let tokens = [(&one, count)].into_iter();
        Buckets::read(record, at).give_back(record, tokens)
    };
    let mut some = give(&record, 20, NOW);
    assert_eq!(drain(&mut some, &one, NOW), 170);
    assert_eq!(drain(&mut some, &other, NOW), 150, "nobody else's");
    let mut more = give(&record, 90, NOW);
    assert_eq!(drain(&mut more, &one, NOW), 200, "a burst at most");
    // All have come meanwhile; nothing is known of a bucket that is full.
    let later = NOW.plus(60 * SECOND);
    let mut late = give(&record, 20, later);
    assert_eq!(drain(&mut late, &one, later), 200);
    // What cannot be read stays as it is.
    let newer = [&[9], &record[1..]].concat();
    let back = WallTime::from_ns(NOW.ns() - 3600 * SECOND);
    assert_eq!(give(&newer, 20, NOW), newer);
    assert_eq!(give(&record, 20, back), record);
    assert!(give(&[], 20, NOW).is_empty());
}

#[test]
fn invariant_7_a_record_has_so_many_buckets_at_most() {
    let mut keys: Vec<u64> = (0..BUCKETS_MAX as u64)
        .map(|name| quota(name, 1, 10).key.0)
        .collect();
    keys.sort_unstable();
    let mut record = Buckets::read(&[], NOW).create();
    for key in keys {
        record.extend_from_slice(&record::numbers(&[key, NOW.plus(SECOND).ns()]));
    }
    assert_eq!(open(&record).unwrap().1.len(), BUCKETS_MAX);
    for name in 0..9 + BUCKETS_MAX as u64 {
        if name % 1000 < 9 {
            record = Buckets::read(&record, NOW).take(&quota(name, 1, 10));
            let (_, entries) = open(&record).unwrap();
            assert!(entries.find(quota(name, 1, 10).key).is_ok());
            assert!(entries.len() <= BUCKETS_MAX);
        }
    }
    let (_, entries) = open(&record).unwrap();
    let keys: Vec<BackendKey> = (0..entries.len())
        .map(|place| BackendKey(read(entries.at(place).unwrap()).unwrap().0))
        .collect();
    assert!(keys.is_sorted());
}
