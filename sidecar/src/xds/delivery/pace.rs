//! How often what is served may change: at once after a quiet time, else at a steady pace.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of one series of changes.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Least time between two changes: each costs every worker some milliseconds.
    pub fn new(interval: Duration) -> Self {
        Pace {
            interval,
            last: None,
        }
    }

    /// Whether a change may leave now; if so, it has.
    pub fn admit(&mut self, now: Instant) -> bool {
        let due = self.next().is_none_or(|next| now >= next);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// When the next change may leave; `None`: at any time.
    pub fn next(&self) -> Option<Instant> {
        self.last.map(|last| last + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_leaves_at_once_and_the_next_wait() {
        const INTERVAL: Duration = Duration::from_millis(500);
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL);
        assert!(pace.admit(start));
        assert!(!pace.admit(start + Duration::from_millis(1)));
        assert!(!pace.admit(start + Duration::from_millis(499)));
        assert!(pace.admit(start + INTERVAL));
        assert_eq!(pace.next(), Some(start + 2 * INTERVAL));
        assert!(pace.admit(start + Duration::from_secs(9)), "quiet again");
    }
}
