//! Rules of limits: who has no room is passed by, RL-1 to RL-3.

use super::*;
use crate::cluster::load::LoadReport;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// When the client of a refused request may come again.
fn retry_after(text: &str) -> Option<u64> {
    match drawn(text).route() {
        Decision::Refuse { retry_after_ns, .. } => retry_after_ns,
        Decision::Forward(plan) => panic!("{plan:?}"),
    }
}

#[test]
fn rl_2_whoever_has_no_token_is_passed_by() {
    check("a:rate5/10,spent b", "b a by Primary deferred");
    check("a b:rate5/10,spent c", "a c b by Primary");
    check("a:rate5/10,spent b:backup", "b a by Backup deferred");
    check("a:rate5/10,spent b:w0", "b a by Primary deferred");
    check(
        "a:rate5/10,spent b:rate5/10,spent c:rate5/10",
        "c a b by Primary deferred",
    );
    check("a:rate5/10 b:cooling", "a by Primary alone");
}

#[test]
fn rl_1_every_pick_takes_a_token_and_only_of_its_own_bucket() {
    let mut drawing = drawn("a:rate5/3 b:rate5/2 c:backup");
    assert_eq!(drawing.picks(7).concat(), "ababacc");
    drawing.now = drawing.now.plus(SECOND / 5);
    let mut picks = drawing.picks(3);
    picks.sort_unstable();
    assert_eq!(picks.concat(), "abc");
}

#[test]
fn rl_3_all_limited_is_429_until_the_soonest_token() {
    check("a:rate5/10,spent", "refuse AllLimited");
    check(
        "a:rate5/10,spent b:rate1/1,spent,backup",
        "refuse AllLimited",
    );
    check("a:rate5/10,spent b:cooling", "refuse AllLimited");
    assert_eq!(
        retry_after("a:rate5/10,spent b:rate2/1,spent"),
        Some(SECOND / 5)
    );
    assert_eq!(
        retry_after("a:rate5/10,spent,cooling9 b:rate2/1,spent"),
        Some(SECOND / 2)
    );
    // Windows are the reason where somebody limited is in one too.
    check("a:rate5/10,spent,cooling", "refuse AllBackingOff");
}

#[test]
fn rl_3_failing_open_lifts_no_limit_and_no_limit_fails_open() {
    check("a:rate5/10,spent b:unhealthy", "refuse AllLimited");
    check(
        "a:rate5/10,spent,unhealthy b:unhealthy",
        "b a by FailOpen deferred",
    );
    check("a:rate5/10,spent,unhealthy", "refuse AllLimited");
    assert_eq!(
        retry_after("a:rate4/1,spent,unhealthy b:cooling"),
        Some(SECOND / 4)
    );
    let words = drawn("a:rate5/10,spent,unhealthy").refusing().words();
    assert_eq!(words, "refuse AllUnhealthy");
}

#[test]
fn rl_2_a_tail_has_those_with_tokens_first_and_none_who_can_owe_no_more() {
    let mut drawing =
        drawn("a b:rate5/2,spent c:rate5/2 d:backup e:backup,rate5/1,spent").attempts(5);
    assert_eq!(drawing.words(), "a c d b e by Primary");
    let owe = |drawing: &mut Drawing, id| {
        let endpoint = drawing.cluster.endpoint(drawing.endpoint(id)).unwrap();
        let quota = endpoint.quota.as_deref().unwrap();
        drawing.buckets = Buckets::read(&drawing.buckets, drawing.now).take(quota);
    };
    owe(&mut drawing, "b");
    owe(&mut drawing, "b");
    owe(&mut drawing, "e");
    assert_eq!(drawing.list().len(), 3, "both owe a burst");
}

#[test]
fn max_in_flight_passes_by_like_an_empty_bucket() {
    check("a:max2,busy2 b", "b by Primary alone deferred");
    check("a:max3,busy2 b", "a b by Primary");
    check("a b:max2,busy3 c", "a c by Primary");
    check("a:max1,busy1 b:backup", "b by Backup alone deferred");
    check("a:max1,busy1 b:unhealthy", "refuse AllLimited");
    assert_eq!(retry_after("a:max1,busy1"), None, "nobody knows when");
    assert_eq!(
        retry_after("a:max1,busy1 b:rate5/1,spent"),
        Some(SECOND / 5)
    );
    check(
        "a:max1,busy1,rate5/1 b:rate5/1,spent c",
        "c b by Primary deferred",
    );
}

#[test]
fn max_in_flight_counts_the_requests_of_all_workers() {
    for (elsewhere, words) in [(1, "a b by Primary"), (2, "b by Primary alone deferred")] {
        let mut drawing = drawn("a:max3,busy1 b");
        let report = LoadReport {
            key: drawing.load("a").key,
            in_flight: elsewhere,
            estimate_ns: 0,
            average: None,
        };
        drawing.loads.gather([report].into_iter());
        drawing.loads.turn_over(NOW);
        assert_eq!(drawing.words(), words);
    }
}

#[test]
fn rl_2_a_cookie_whose_backend_has_no_room_is_kept() {
    let keeps = |text: &str, cookie: &str| match drawn(text).cookie(cookie).route() {
        Decision::Forward(plan) => (plan.keeps_cookie, plan.sticky_lost, plan.reason),
        refused => panic!("{refused:?}"),
    };
    let primary = PickReason::Primary;
    assert_eq!(keeps("a:rate5/1,spent b", "a"), (true, false, primary));
    assert_eq!(keeps("a:max1,busy1 b", "a"), (true, false, primary));
    assert_eq!(
        keeps("a:rate5/1,spent,cooling b", "a"),
        (false, true, primary)
    );
    assert_eq!(
        keeps("a:rate5/1 b", "a"),
        (false, false, PickReason::Sticky)
    );
    check_cookie("a:rate5/1,spent b", "a", "b a by Primary deferred");
    check_cookie("a b:rate5/1,spent", "b", "a b by Primary deferred");
    check_cookie("a:says=x,rate5/1,spent b:says=x", "x", "b a by Sticky");
}

#[test]
fn ids_that_share_an_address_share_its_strictest_limit() {
    let drawing = drawn("a:rate5/10,max3 b@a:rate2/20 c@a:max2");
    let endpoint = drawing.cluster.endpoint(drawing.endpoint("a")).unwrap();
    let limit = endpoint.quota.as_ref().unwrap().limit;
    assert_eq!(
        (limit.per_second, limit.burst, endpoint.max_in_flight),
        (2, 20, 2)
    );
}

#[test]
fn rl_8_an_edit_keeps_a_bucket_unless_the_limit_changes() {
    let mut drawing = drawn("a:rate5/2");
    assert_eq!(drawing.picks(3).concat(), "aa-");
    drawing.redraw("a:rate5/2,w7 b:w0,cooling");
    assert_eq!(drawing.pick(), "-", "still empty");
    drawing.redraw("a:rate5/3");
    assert_eq!(drawing.picks(4).concat(), "aaa-", "full");
}

/// Every policy: of a hundred the one that has tokens serves, and the pick loop ends.
#[test]
fn rl_2_the_last_of_a_hundred_with_tokens_is_picked() {
    for policy in [
        Policy::RoundRobin,
        Policy::Random,
        Policy::LeastLoaded,
        Policy::PowerOfTwo,
    ] {
        let document = serde_json::json!({"name": "x", "backends": [], "rateLimit": {"perSecond": 1, "burst": 1}});
        let limit = crate::config::ClusterConfig::parse(&document)
            .unwrap()
            .rate_limit;
        let mut drawing = Drawing::new("a").policy(policy).edit(|config| {
            config.rate_limit = limit;
            let first = config.backends[0].clone();
            config.backends = (0..100u8)
                .map(|nth| {
                    let mut backend = first.clone();
                    backend.id = format!("b{nth}");
                    backend.address = ([10, 0, 1, nth], 80).into();
                    backend
                })
                .collect();
        });
        for nth in 0..99 {
            drawing.spend(&format!("b{nth}"));
        }
        assert_eq!(drawing.pick(), "b99", "{policy:?}");
        assert_eq!(drawing.words(), "refuse AllLimited", "{policy:?}");
    }
}

#[test]
fn smooth_turns_stay_smooth_among_those_with_room() {
    let mut drawing = drawn("a:w5,rate1/1,spent b:w2 c:w1");
    let shares = drawing.shares(300);
    assert!(
        shares.of("a") == 0 && shares.of("b").abs_diff(200) <= 1,
        "{shares:?}"
    );
    let mut drawing = drawn("a:w5,rate1/1,spent b:w2 c:w1");
    drawing.shares(300);
    drawing.now = drawing.now.plus(SECOND);
    assert_eq!(drawing.pick(), "a", "it waited longest for its turn");
}
