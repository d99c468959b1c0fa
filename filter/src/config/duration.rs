//! Durations as the registry writes them: a number and its unit, `"500ms"`, `"10s"`, `"1.5s"`.

use std::time::Duration;

/// Reads a number with one of the units `ms`, `s`, `m`, `h`. A fraction may have up to three digits
/// and must come out at whole milliseconds; `None` for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let end = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at_checked(end)?;
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok().filter(|n| *n <= 3)?)?;
    let parts = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    if !parts.is_multiple_of(scale) {
        return None;
    }
    let millis = whole
        .checked_mul(unit)?
        .checked_add(parts.checked_div(scale)?)?;
    Some(Duration::from_millis(millis))
}

/// Writes a duration in seconds where it is whole, else in milliseconds; finer parts are cut.
pub fn print(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        return format!("{}s", duration.as_secs());
    }
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn units() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2m", 120_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("0.001m"), Some(Duration::from_millis(60)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "1.s",
            ".5s",
            "1.5.5s",
            "0.5ms",
            "1.0001s",
            "1 s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
            "١s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["0s", "250ms", "1s", "63s", "1500ms"] {
            assert_eq!(parse(text).map(print).as_deref(), Some(text));
        }
    }
}
