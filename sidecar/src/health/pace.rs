//! When the prober publishes what it knows: at once after a quiet time, and not too often after that.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of one output.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    /// There is something to publish: at the soonest `gap` after the last time.
    pub fn want(&mut self, gap: Duration, now: Instant) {
        let at = self.last.map_or(now, |last| (last + gap).max(now));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is to be published now; asked once, it is.
    pub fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.last = Some(now);
        }
        is_due
    }

    /// When it is to be.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_soonest_wish_counts() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::default();
        assert!(!pace.take(now));
        pace.want(second, now);
        assert!(pace.take(now) && !pace.take(now));
        pace.want(second, now + second / 2);
        assert!(!pace.take(now + second / 2));
        assert_eq!(pace.due(), Some(now + second));
        pace.want(second / 4, now + second / 2);
        assert!(pace.take(now + second / 2), "what is more urgent");
        assert_eq!(pace.due(), None);
    }
}
