//! How long a backend is left alone that has answered that it has too much to do (RT-12, RT-13).

use std::str;
use std::time::{Duration, UNIX_EPOCH};

use crate::base::time::{WallTime, nanos};
use crate::config::Cooldown;

/// The shortest time that an answer can ask for.
const ASKED_MIN: Duration = Duration::from_secs(1);

/// The cooldown after an answer that counts, nanoseconds: what the answer asks for, else
/// min(max, base × 2ⁿ), where n is the number of such answers with this one. So with the defaults:
/// 6, 12, 24, 48, then 60 s.
pub fn window_ns(cooldown: &Cooldown, count: u8, asked_ns: Option<u64>) -> u64 {
    match asked_ns {
        Some(asked_ns) => granted_ns(cooldown, asked_ns),
        None => {
            let times = 1u64.checked_shl(count.into()).unwrap_or(u64::MAX);
            let window = nanos(cooldown.base).saturating_mul(times);
            window.min(nanos(cooldown.max))
        }
    }
}

/// How much of what an answer asks for it gets, nanoseconds.
pub fn granted_ns(cooldown: &Cooldown, asked_ns: u64) -> u64 {
    asked_ns.max(nanos(ASKED_MIN)).min(nanos(cooldown.max))
}

/// For how long an answer asks to be left alone, nanoseconds: by the first of its headers that can be
/// read. The time is only asked where that is a date.
pub fn asked_ns(
    header: impl Fn(&str) -> Option<Vec<u8>>,
    now: impl Fn() -> WallTime,
) -> Option<u64> {
    let number = |text: &str| text.parse::<u64>().ok();
    let millis = |text: &str| Some(number(text)?.saturating_mul(1_000_000));
    let seconds_or_date = |text: &str| match number(text) {
        Some(seconds) => Some(seconds.saturating_mul(1_000_000_000)),
        None => {
            let date = httpdate::parse_http_date(text).ok()?;
            let date = date.duration_since(UNIX_EPOCH).ok()?;
            Some(WallTime::from_ns(nanos(date)).since(now()))
        }
    };
    let read = |name: &str, parse: &dyn Fn(&str) -> Option<u64>| {
        let value = header(name)?;
        parse(str::from_utf8(&value).ok()?.trim())
    };
    read("retry-after-ms", &millis)
        .or_else(|| read("retry-after", &seconds_or_date))
        .or_else(|| read("grpc-retry-pushback-ms", &millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;
    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const THEN: WallTime = WallTime::from_ns(784_111_777 * SECOND);

    #[test]
    fn rt_13_each_cooldown_is_twice_as_long_as_the_one_before() {
        let cooldown = Cooldown::default();
        for (count, seconds) in [
            (1, 6),
            (2, 12),
            (3, 24),
            (4, 48),
            (5, 60),
            (6, 60),
            (100, 60),
        ] {
            assert_eq!(
                window_ns(&cooldown, count, None),
                seconds * SECOND,
                "{count}"
            );
        }
        let extreme = Cooldown {
            base: Duration::MAX,
            max: Duration::MAX,
            ..cooldown
        };
        assert_eq!(window_ns(&extreme, u8::MAX, None), u64::MAX);
    }

    #[test]
    fn rt_13_an_answer_gets_what_it_asks_for_within_bounds() {
        let cooldown = Cooldown::default();
        for (asked, granted) in [(0, 1), (1, 1), (7, 7), (60, 60), (61, 60), (1 << 33, 60)] {
            let window = window_ns(&cooldown, 3, Some(asked * SECOND));
            assert_eq!(window, granted * SECOND, "{asked}");
        }
        let brief = Cooldown {
            max: Duration::from_millis(300),
            ..cooldown
        };
        assert_eq!(window_ns(&brief, 1, Some(0)), 3 * SECOND / 10);
    }

    #[test]
    fn the_first_header_that_can_be_read_counts() {
        let (ms, after, pushback) = ("retry-after-ms", "retry-after", "grpc-retry-pushback-ms");
        for (headers, millis) in [
            (vec![], None),
            (vec![(ms, "250"), (after, "9"), (pushback, "9")], Some(250)),
            (
                vec![(ms, "-1"), (after, " 9 "), (pushback, "7")],
                Some(9000),
            ),
            (
                vec![(ms, "soon"), (after, "later"), (pushback, "7")],
                Some(7),
            ),
            (vec![(pushback, "-1")], None),
            (vec![(after, "1.5")], None),
            (vec![(after, "Sun, 06 Nov 1994 08:49:47 GMT")], Some(10_000)),
            (vec![(after, "Sun, 06 Nov 1994 08:49:27 GMT")], Some(0)),
            (
                vec![(after, "Sunday, 06-Nov-94 08:49:47 GMT")],
                Some(10_000),
            ),
            (vec![(after, "Sun, 06 Nov 1894 08:49:47 GMT")], None),
            (
                vec![(after, "18446744073709551615")],
                Some(u64::MAX / 1_000_000),
            ),
            (vec![(after, "18446744073709551616")], None),
            (vec![(after, "")], None),
        ] {
            let header = |name: &str| {
                let mut found = headers.iter().filter(|(known, _)| *known == name);
                found.next().map(|(_, value)| value.as_bytes().to_vec())
            };
            let asked = asked_ns(header, || THEN).map(|ns| ns / 1_000_000);
            assert_eq!(asked, millis, "{headers:?}");
        }
        let nobody_asks = || -> WallTime { panic!("the time") };
        assert_eq!(asked_ns(|_| Some(vec![0xff]), nobody_asks), None);
        let seconds = |_: &str| Some(b"7".to_vec());
        assert_eq!(asked_ns(seconds, nobody_asks), Some(7_000_000));
    }
}
