//! Whose clock differs from the sidecar's.

use jiff::SignedDuration;

use super::finding::Finding;

/// Dates of answers have whole seconds, and an answer takes its time.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

/// What is wrong when this clock is so far ahead of the sidecar's; negative: behind it.
pub fn finding(whose: &str, ahead: SignedDuration) -> Option<Finding> {
    (ahead.abs() > SKEW_MAX).then(|| Finding {
        check: "clock-skew",
        what: format!(
            "{whose} clock is {:#} {} the sidecar's",
            SignedDuration::from_secs(ahead.abs().as_secs()),
            match ahead.is_positive() {
                true => "ahead of",
                false => "behind",
            }
        ),
        why: "`startsAt`, `expiresAt` and heartbeats are moments: each machine meets them at another time",
        mend: "let all machines follow the same time servers (NTP)",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seconds_are_no_skew_in_either_direction() {
        let of = |seconds| finding("Envoy's", SignedDuration::from_secs(seconds));
        assert!(of(5).is_none() && of(-5).is_none());
        let ahead = of(6).unwrap().what;
        assert_eq!(ahead, "Envoy's clock is 6s ahead of the sidecar's");
        let behind = of(-7200).unwrap().what;
        assert_eq!(behind, "Envoy's clock is 2h behind the sidecar's");
    }
}
