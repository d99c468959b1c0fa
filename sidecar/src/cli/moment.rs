//! A moment as an operator types it: a date with a time, or the next such time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::Time;

const DAY_MS: u64 = 86_400_000;
const FORM: &str =
    "must be a date and time such as 2026-11-21T22:00:00Z, or a time of day in UTC such as 22:00";

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This one, ms since 1970.
    At(u64),
    /// The next at which a clock in UTC shows this, ms since midnight.
    Next(u64),
}

impl Moment {
    /// Reads RFC 3339, or `HH:MM` or `HH:MM:SS` in UTC.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(moment) = text.parse::<Timestamp>() {
            let at = u64::try_from(moment.as_millisecond());
            return at.map(Moment::At).map_err(|_| FORM);
        }
        // The library takes other forms as well, some of which look like numbers.
        let parts: Vec<usize> = text.split(':').map(str::len).collect();
        let time: Time = match parts.as_slice() {
            [2, 2] | [2, 2, 2] => text.parse().map_err(|_| FORM)?,
            _ => return Err(FORM),
        };
        let seconds = [(time.hour(), 3600), (time.minute(), 60), (time.second(), 1)]
            .map(|(count, unit)| u64::from(count.unsigned_abs()) * unit);
        Ok(Moment::Next(seconds.iter().sum::<u64>() * 1000))
    }

    /// When that is, ms since 1970, where it is `now`; `None`: it has passed.
    pub fn after(self, now: u64) -> Option<u64> {
        match self {
            Moment::At(at) => (at > now).then_some(at),
            Moment::Next(of_day) => {
                let today = now - now % DAY_MS + of_day;
                Some(if today > now { today } else { today + DAY_MS })
            }
        }
    }
}

/// ms since 1970, by this machine's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T20:00:00Z.
    const EVENING: u64 = 1_795_291_200_000;
    const HOUR: u64 = 3_600_000;

    fn of(text: &str) -> Option<u64> {
        Moment::parse(text).unwrap().after(EVENING)
    }

    #[test]
    fn a_date_and_time_is_itself_wherever_its_clock_hangs() {
        assert_eq!(of("2026-11-21T22:00:00Z"), Some(EVENING + 2 * HOUR));
        assert_eq!(of("2026-11-21T23:00:00+01:00"), Some(EVENING + 2 * HOUR));
        assert_eq!(of("2026-11-21T20:00:00.250Z"), Some(EVENING + 250));
        assert_eq!(of("2026-11-21T20:00:00Z"), None);
        assert_eq!(of("2025-01-01T00:00:00Z"), None);
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        assert_eq!(of("22:00"), Some(EVENING + 2 * HOUR));
        assert_eq!(of("20:00:01"), Some(EVENING + 1000));
        assert_eq!(of("20:00"), Some(EVENING + 24 * HOUR), "not now");
        assert_eq!(of("00:00"), Some(EVENING + 4 * HOUR));
        assert_eq!(of("19:59:59"), Some(EVENING + 24 * HOUR - 1000));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in [
            "",
            "22",
            "2200",
            "24:00",
            "22:60",
            "22:00:61",
            "9:00",
            "22:00Z",
            "noon",
            "10m",
            "2026-11-21",
            "2026-11-21T22:00:00",
            "1795291200000",
            "22:00:00.5",
            "T22:00",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(Moment::parse(text), Err(FORM), "{text}");
        }
    }
}
