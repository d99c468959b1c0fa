//! Backends that registered themselves and are not heard of any more.

use super::*;

#[test]
fn rg_14_a_silent_backend_is_out_at_90_s_and_gone_at_3600_s() {
    let records = records(vec![("pm:backend:a:self", beat(NOW))]);
    let fresh = records.read(at(NOW + STALE_MS));
    assert_eq!(served(&fresh), "a: a-1, self");
    assert_eq!(fresh.due, Some(NOW + STALE_MS + 1));
    let stale = records.read(at(NOW + STALE_MS + 1));
    assert_eq!((served(&stale).as_str(), stale.due), ("a: a-1", None));
    assert!(records.read(at(NOW + GONE_MS)).gone.is_empty());
    assert_eq!(records.read(at(NOW + GONE_MS + 1)).gone, [silent()]);
}

/// Two in a row: who was alive before the first could not say a word before the second.
#[test]
fn rg_14_after_every_outage_who_was_alive_has_the_whole_time_again() {
    let mut records = records(vec![("pm:backend:a:self", beat(NOW))]);
    let mut heard = NOW + STALE_MS;
    for _ in 0..2 {
        let back = heard + 2 * GONE_MS;
        // What the first reading finds.
        let read = vec![cluster_a(), (own(), beat(NOW))];
        replace_at(&mut records, read, at(back));
        records.spare(heard, back);
        let spared = records.read(at(back + STALE_MS));
        assert_eq!(served(&spared), "a: a-1, self");
        assert_eq!(spared.due, Some(back + STALE_MS + 1));
        assert_eq!(records.read(at(back + GONE_MS)).gone, []);
        assert_eq!(served(&records.read(at(back + STALE_MS + 1))), "a: a-1");
        heard = back + 1;
    }
    // Who was out before stays out, but the time of the outage is not its silence.
    let late = heard + STALE_MS;
    records.spare(late, late + GONE_MS);
    let after = records.read(at(late + GONE_MS));
    assert_eq!((served(&after).as_str(), after.gone.len()), ("a: a-1", 0));
    let silent_for = late - (heard - 1);
    let gone = late + GONE_MS + GONE_MS - silent_for;
    assert_eq!(records.read(at(gone)).gone, []);
    assert_eq!(records.read(at(gone + 1)).gone, [silent()]);
}

/// Whatever the heartbeat of one that is found at the start says, its silence begins there: the store may
/// have been away for longer than any backend could be heard.
#[test]
fn rg_14_who_is_found_silent_at_the_start_has_the_whole_time() {
    let start = NOW + 2 * GONE_MS;
    let mut records = Records::default();
    let read = vec![cluster_a(), (own(), beat(NOW))];
    replace_at(&mut records, read, at(start));
    let first = records.read(at(start + STALE_MS));
    assert_eq!(served(&first), "a: a-1, self");
    assert!(
        first.faults.is_empty(),
        "it may have been silent for so long"
    );
    assert_eq!(served(&records.read(at(start + STALE_MS + 1))), "a: a-1");
    assert_eq!(records.read(at(start + GONE_MS)).gone, []);
    assert_eq!(records.read(at(start + GONE_MS + 1)).gone, [silent()]);
    let later = beat(start + GONE_MS);
    let back = at(start + GONE_MS + 2);
    assert!(put_at(&mut records, own(), later, back), "it was out");
    assert!(records.read(back).gone.is_empty());
}

/// No step of the store's clock takes anybody out, keeps anybody in or deletes anybody.
#[test]
fn rg_14_a_clock_that_is_set_decides_over_nobody() {
    for step in [
        2 * GONE_MS.cast_signed(),
        -2 * GONE_MS.cast_signed(),
        i64::MIN,
        i64::MAX,
    ] {
        let set = |ms: u64| Moment {
            store: ms.saturating_add_signed(step),
            steady: ms,
        };
        let mut records = records(vec![("pm:backend:a:self", beat(NOW))]);
        let alive = records.read(set(NOW + STALE_MS));
        assert_eq!(served(&alive), "a: a-1, self", "{step}");
        assert!(alive.gone.is_empty() && alive.faults.is_empty(), "{step}");
        let silent = records.read(set(NOW + STALE_MS + 1));
        assert_eq!(served(&silent), "a: a-1", "{step}");
        assert!(silent.gone.is_empty(), "{step}");
        // By the clock that was set it is heard as ever.
        let now = set(NOW + 2 * STALE_MS);
        put_at(&mut records, own(), beat(now.store), now);
        let heard = records.read(set(NOW + 3 * STALE_MS));
        assert_eq!(served(&heard), "a: a-1, self", "{step}");
        let plausible = [2, -2].map(|hours| hours * GONE_MS.cast_signed());
        if plausible.contains(&step) {
            assert!(heard.faults.is_empty(), "{step}: {:?}", heard.faults);
        }
    }
}

/// A heartbeat that cannot be is named, and counts from when it was seen.
#[test]
fn rg_14_a_heartbeat_that_cannot_be_is_named_and_counts_from_when_it_is_seen() {
    use HeartbeatFault::{Future, NotMilliseconds, Past};
    let seen = NOW + 3 * STALE_MS;
    for (text, fault) in [
        ((seen + 60_000).to_string(), None),
        ((seen + 60_001).to_string(), Some(Future)),
        ((seen + 2 * GONE_MS).to_string(), Some(Future)),
        (u64::MAX.to_string(), Some(NotMilliseconds)),
        (format!("{}0", u64::MAX), Some(NotMilliseconds)),
        ((seen / 1000).to_string(), Some(NotMilliseconds)),
        ((seen * 1000).to_string(), Some(NotMilliseconds)),
        ("-1".to_owned(), Some(NotMilliseconds)),
        ("soon".to_owned(), Some(NotMilliseconds)),
        (String::new(), Some(NotMilliseconds)),
        // The record was seen first at NOW.
        ((NOW - 60_000).to_string(), None),
        ((NOW - 60_001).to_string(), Some(Past)),
    ] {
        let raw = || hash(&[("address", "10.0.0.2:80"), ("heartbeatAt", text.as_str())]);
        let mut records = records(vec![("pm:backend:a:self", beat(NOW))]);
        put_at(&mut records, own(), raw(), at(seen));
        // Read again it is the same heartbeat.
        let again = vec![cluster_a(), (own(), raw())];
        replace_at(&mut records, again, at(seen + STALE_MS));
        let reading = records.read(at(seen + STALE_MS));
        assert_eq!(served(&reading), "a: a-1, self", "{text}");
        let named: Vec<_> = reading.faults.values().copied().collect();
        assert_eq!(named, Vec::from_iter(fault), "{text}");
        let warning = report(&reading, "a").unwrap().warning.clone();
        let place = "clusters.a.backends[self].heartbeatAt: ";
        let told = warning.is_some_and(|it| it.starts_with(place));
        assert_eq!(told, fault.is_some(), "{text}");
        assert_eq!(report(&reading, "a").unwrap().verdict, Verdict::Accepted);
        let silent = records.read(at(seen + STALE_MS + 1));
        assert_eq!(served(&silent), "a: a-1", "{text}");
        assert!(records.read(at(seen + GONE_MS)).gone.is_empty(), "{text}");
        let gone = records.read(at(seen + GONE_MS + 1)).gone;
        assert_eq!(gone[0].heartbeat, text.as_bytes());
        // Repaired it is no longer named.
        let good = beat(seen + STALE_MS);
        put_at(&mut records, own(), good, at(seen + STALE_MS));
        let reading = records.read(at(seen + STALE_MS));
        assert!(reading.faults.is_empty(), "{text}");
    }
}

/// A bad field keeps the last good version, for as long as its backend is heard.
#[test]
fn rg_14_a_record_that_turns_bad_is_heard_all_the_same() {
    let mut records = records(vec![("pm:backend:a:self", beat(NOW))]);
    let bad = |at: u64| {
        let at = at.to_string();
        hash(&[("address", "nowhere"), ("heartbeatAt", at.as_str())])
    };
    for seen in [NOW + STALE_MS, NOW + 2 * STALE_MS] {
        put_at(&mut records, own(), bad(seen), at(seen));
        let reading = records.read(at(seen + STALE_MS));
        assert_eq!(served(&reading), "a: a-1, self");
        assert_eq!(rejected(&reading).len(), 1);
    }
    let silent = records.read(at(NOW + 3 * STALE_MS + 1));
    assert_eq!(served(&silent), "a: a-1");
}
