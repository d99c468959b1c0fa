//! What the record of gates keeps, reads and forgives.

use super::*;
#[cfg(not(target_arch = "wasm32"))]
use proptest::prelude::{any, prop_assert_eq, proptest};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn at(ns: u64) -> WallTime {
    WallTime::from_ns(ns)
}

fn two() -> Gates {
    let mut gates = Gates {
        all_down: true,
        ..Gates::default()
    };
    gates.update(BackendKey(9), |gate| gate.unhealthy = true);
    gates.update(BackendKey(3), |gate| {
        (gate.tries, gate.failed_at, gate.until) = (2, at(5), at(8))
    });
    gates
}

#[test]
fn nothing_gated_is_an_empty_blob() {
    assert!(Gates::default().encode().is_empty());
    let mut gates = two();
    gates.all_down = false;
    gates.update(BackendKey(9), |gate| gate.unhealthy = false);
    gates.update(BackendKey(3), |gate| *gate = Gate::open(BackendKey(3)));
    assert!(gates.encode().is_empty());
}

#[test]
fn reads_back_sorted() {
    let read = Gates::decode(&two().encode());
    assert_eq!(read, two());
    assert_eq!(read.of(BackendKey(3)).map(|gate| gate.until), Some(at(8)));
    assert_eq!(read.of(BackendKey(4)), None);
}

#[test]
fn corrupt_blobs_count_as_empty() {
    let good = two().encode();
    let mut other_version = good.clone();
    other_version[0] = 2;
    let longer = [good.clone(), vec![0]].concat();
    let shorter = good[..good.len() - 1].to_vec();
    let small_entries = record::create(VERSION, &[0, 1, 0, 0, 0], 0);
    let endless = record::create(VERSION, &[0, 255, 255, 255, 255], 0);
    for blob in [
        other_version,
        longer,
        shorter,
        small_entries,
        endless,
        vec![1],
    ] {
        assert_eq!(Gates::decode(&blob), Gates::default(), "{blob:?}");
        assert!(open(&blob).0.is_empty(), "{blob:?}");
    }
}

#[test]
fn entries_out_of_order_are_dropped_by_whoever_tidies() {
    let mut blob = two().encode();
    let first = blob.len() - 2 * ENTRY_MIN;
    blob[first] = 99;
    let mut gates = Gates::decode(&blob);
    gates.prune(at(0), 0, true, |_| true);
    assert!(gates.encode().is_empty());
    let mut gates = two();
    gates.prune(at(0), 0, true, |_| true);
    assert_eq!(gates, two());
}

#[test]
fn entries_have_room_for_cooldowns_once_there_is_one() {
    let mut gates = two();
    assert_eq!(gates.size, ENTRY_MIN);
    gates.update(BackendKey(5), |gate| {
        (gate.cooldowns, gate.cooled_at, gate.cools_until) = (1, at(7), at(9));
    });
    assert_eq!(gates.size, ENTRY);
    let read = Gates::decode(&gates.encode());
    assert_eq!(read, gates);
    assert_eq!(
        read.of(BackendKey(5)).map(|gate| gate.cooled_at),
        Some(at(7))
    );
    let others = |gates: &Gates| [3, 9].map(|key| gates.of(BackendKey(key)));
    assert_eq!(others(&read), others(&two()));
}

/// What a module writes that knows two more bytes of each entry and one more of the head.
fn newer(gates: &Gates) -> Vec<u8> {
    let wide = ENTRY + 2;
    let mut newer = Gates {
        bytes: Vec::new(),
        size: wide,
        appended: vec![5],
        ..gates.clone()
    };
    for gate in gates.entries().iter() {
        newer.update(gate.key, |entry| *entry = gate);
    }
    let entries = newer.bytes.chunks_exact_mut(wide);
    entries.for_each(|entry| entry[ENTRY + 1] = entry[0]);
    newer.encode()
}

#[test]
fn a_newer_modules_gates_are_read_and_what_it_appended_stays() {
    let mut gates = Gates::decode(&newer(&two()));
    assert!(gates.entries().iter().eq(two().entries().iter()));
    assert!(gates.all_down);
    gates.update(BackendKey(4), |gate| gate.tries = 1);
    gates.judge(&[BackendKey(5)], |_| true, at(0));
    gates.update(BackendKey(3), |gate| *gate = Gate::open(BackendKey(3)));
    gates.all_down = false;
    let keys = |gates: &Gates| gates.entries().iter().map(|g| g.key.0).collect::<Vec<_>>();
    assert_eq!(keys(&gates), [3, 4, 5, 9], "3 and 9 hold what is not ours");
    assert_eq!(Gates::decode(&gates.encode()), gates);
    let wide = ENTRY + 2;
    let appended = gates.bytes.chunks_exact(wide).map(|e| e[wide - 1]);
    assert_eq!(appended.collect::<Vec<u8>>(), [3, 0, 0, 9]);
    for key in [4, 5].map(BackendKey) {
        gates.update(key, |gate| *gate = Gate::open(key));
    }
    assert_eq!(keys(&gates), [3, 9]);
    gates.bytes.clear();
    assert!(!gates.encode().is_empty(), "its head says something still");
}

#[test]
fn verdicts_come_and_go_without_touching_back_offs() {
    let mut gates = two();
    gates.judge(
        &[BackendKey(4), BackendKey(3), BackendKey(4)],
        |key| key == BackendKey(9),
        at(20),
    );
    assert_eq!(gates.of(BackendKey(9)), None);
    assert!(gates.of(BackendKey(4)).is_some_and(|gate| gate.unhealthy));
    assert!(
        gates
            .of(BackendKey(3))
            .is_some_and(|gate| gate.unhealthy && gate.tries == 2)
    );
    assert_eq!(
        gates.of(BackendKey(4)).map(|gate| gate.unhealthy_since),
        Some(at(20))
    );
    gates.judge(&[BackendKey(4)], |_| false, at(30));
    assert_eq!(
        gates.of(BackendKey(4)).map(|gate| gate.unhealthy_since),
        Some(at(20))
    );
    gates.judge(&[], |_| true, at(40));
    assert!(
        gates
            .of(BackendKey(3))
            .is_some_and(|gate| !gate.unhealthy && gate.tries == 2)
    );
}

#[test]
fn forgotten_backends_are_dropped_late() {
    let mut gates = two();
    gates.prune(at(STALE_NS), 0, false, |_| false);
    assert!(gates.of(BackendKey(3)).is_some());
    gates.prune(at(STALE_NS + 9), 0, false, |key| key == BackendKey(3));
    assert!(gates.of(BackendKey(3)).is_some());
    gates.prune(at(STALE_NS + 9), 0, false, |_| false);
    assert!(gates.of(BackendKey(3)).is_none() && gates.of(BackendKey(9)).is_some());
}

#[test]
fn a_verdict_on_a_backend_that_is_gone_is_dropped_once_it_is_no_news_to_any_worker() {
    let judged_at = at(2 * NEWS_NS);
    let mut gates = Gates::default();
    gates.judge(&[BackendKey(9)], |_| false, judged_at);
    let later = judged_at.plus(NEWS_NS + 1);
    gates.prune(later, 0, false, |_| false);
    gates.prune(judged_at.plus(NEWS_NS), 0, true, |_| false);
    gates.prune(later, 0, true, |key| key == BackendKey(9));
    assert!(gates.of(BackendKey(9)).is_some_and(|gate| gate.unhealthy));
    gates.prune(later, 0, true, |_| false);
    assert!(gates.encode().is_empty());
}

#[test]
fn a_window_from_before_the_clock_stepped_back_ends_now() {
    let (now, mut gates) = (at(1_000_000_000), Gates::default());
    let (a_moment, hour) = (1_000_000_000, 3_600_000_000_000);
    for (key, failed_at) in [(1, now.plus(a_moment)), (2, now.plus(hour))] {
        gates.update(BackendKey(key), |gate| {
            (gate.tries, gate.failed_at, gate.until) = (3, failed_at, at(u64::MAX));
        });
    }
    gates.prune(now, 0, true, |_| true);
    assert!(
        gates
            .of(BackendKey(1))
            .is_some_and(|gate| gate.backs_off(now))
    );
    assert!(
        gates
            .of(BackendKey(2))
            .is_some_and(|gate| gate.tries == 3 && gate.until == now)
    );
}

#[test]
fn a_verdict_on_more_than_fit_takes_in_as_many_as_fit() {
    let mut gates = two();
    let keys: Vec<BackendKey> = (0..30_000).rev().map(BackendKey).collect();
    gates.judge(&keys, |_| false, at(0));
    assert_eq!(gates.entries().len(), ENTRIES_MAX);
    assert!(
        gates.of(BackendKey(9)).is_some()
            && gates.of(BackendKey(3)).is_some_and(|gate| gate.unhealthy)
    );
    assert_eq!(Gates::decode(&gates.encode()), gates);
    gates.update(BackendKey(u64::MAX), |gate| gate.tries = 1);
    assert_eq!(gates.of(BackendKey(u64::MAX)), None);
    gates.judge(&[], |_| true, at(0));
    assert_eq!(gates.entries().len(), 1);
}

#[cfg(not(target_arch = "wasm32"))]
proptest! {
    #[test]
    fn any_bytes_decode(blob in proptest::collection::vec(any::<u8>(), 0..200)) {
        let gates = Gates::decode(&blob);
        prop_assert_eq!(Gates::decode(&gates.encode()), gates);
    }
}
