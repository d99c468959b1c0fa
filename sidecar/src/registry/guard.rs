//! The rule against losing the registry by accident: a reading that lost more than half of the
//! backends, or all clusters, is served only when a second full reading says so too.

use std::time::Duration;

use tokio::time::Instant;

use super::model::{Held, Registry};
use crate::model::event::Event;
use crate::model::size::Size;

/// What becomes of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It is served.
    Serve,
    /// It is served, and an earlier one had been held back.
    Release {
        /// The loss stood the second reading; else it was made good.
        confirmed: bool,
    },
    /// It is not served.
    Hold {
        /// The first of its kind.
        news: bool,
    },
}

/// What was served lately, and the loss that waits.
#[derive(Debug)]
pub struct Guard {
    delay: Duration,
    last: Size,
    /// The largest size of the last `delay`: many small deletions are one large one.
    peak: Size,
    peak_at: Option<Instant>,
    held_until: Option<Instant>,
}

impl Guard {
    /// Nothing is served yet; a `delay` of zero holds nothing back.
    pub fn new(delay: Duration) -> Self {
        Guard {
            delay,
            last: Size::default(),
            peak: Size::default(),
            peak_at: None,
            held_until: None,
        }
    }

    /// When a full reading is wanted to confirm what is held back.
    pub fn wake(&self) -> Option<Instant> {
        self.held_until
    }

    /// A new connection: what was held back has to be seen for the whole delay on it.
    pub fn on_session(&mut self, now: Instant) {
        self.held_until = self.held_until.map(|_| now + self.delay);
    }

    /// Judges the deletion of so many of the backends that registered themselves (`all`) as a loss:
    /// what there is to tell, and whether it may be.
    pub fn reap(&mut self, gone: usize, all: Size, full: bool) -> (Vec<Event>, bool) {
        let grave = self.delay > Duration::ZERO && gone.saturating_mul(2) > all.backends;
        let found = Size {
            backends: all.backends.saturating_sub(gone),
            ..all
        };
        let ruling = self.weigh(grave, full, Instant::now());
        let (events, held) = told(ruling, all, found);
        (events, held.is_none())
    }

    /// Judges what was read against what is served: what there is to tell, and what is held back.
    pub fn rule(
        &mut self,
        served: &Registry,
        found: &Registry,
        full: bool,
    ) -> (Vec<Event>, Option<Held>) {
        let (served, found) = (served.size(), found.size());
        let ruling = self.judge(found, full, Instant::now());
        told(ruling, served, found)
    }

    /// Judges a reading of this size; `full`: all was read anew, not only what changed.
    pub fn judge(&mut self, found: Size, full: bool, now: Instant) -> Ruling {
        if self.held_until.is_none() && self.peak_at.is_none_or(|at| now >= at + self.delay) {
            self.peak = self.last;
        }
        let grave = self.delay > Duration::ZERO
            && (found.backends.saturating_mul(2) < self.peak.backends
                || (found.clusters == 0 && self.peak.clusters > 0));
        let ruling = self.weigh(grave, full, now);
        match ruling {
            Ruling::Serve | Ruling::Release { confirmed: false } => self.served(found, now),
            Ruling::Release { confirmed: true } => {
                self.last = found;
                self.peak = found;
                self.peak_at = Some(now);
            }
            Ruling::Hold { .. } => {}
        }
        ruling
    }

    /// Lets what is not grave pass, and what is when a full reading says so again after the delay.
    fn weigh(&mut self, grave: bool, full: bool, now: Instant) -> Ruling {
        match self.held_until {
            None if !grave => Ruling::Serve,
            None => {
                self.held_until = Some(now + self.delay);
                Ruling::Hold { news: true }
            }
            Some(until) if grave && !(full && now >= until) => Ruling::Hold { news: false },
            Some(_) => {
                self.held_until = None;
                Ruling::Release { confirmed: grave }
            }
        }
    }

    fn served(&mut self, size: Size, now: Instant) {
        self.last = size;
        let old = self.peak_at.is_none_or(|at| now >= at + self.delay);
        if old || (size.backends >= self.peak.backends && size.clusters >= self.peak.clusters) {
            self.peak = size;
            self.peak_at = Some(now);
        }
    }
}

/// What there is to tell of a ruling, and what is held back.
fn told(ruling: Ruling, served: Size, found: Size) -> (Vec<Event>, Option<Held>) {
    match ruling {
        Ruling::Serve => (Vec::new(), None),
        Ruling::Release { confirmed } => (vec![Event::RegistryGuardReleased { confirmed }], None),
        Ruling::Hold { news } => {
            let event = news.then_some(Event::RegistryGuardHeld { served, found });
            (event.into_iter().collect(), Some(Held { served, found }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);

    fn size(clusters: usize, backends: usize) -> Size {
        Size { clusters, backends }
    }

    /// A guard that has let this size through just now.
    fn serving(clusters: usize, backends: usize, now: Instant) -> Guard {
        let mut guard = Guard::new(DELAY);
        assert_eq!(
            guard.judge(size(clusters, backends), true, now),
            Ruling::Serve
        );
        guard
    }

    #[test]
    fn a_large_loss_waits_for_its_second_reading() {
        let now = Instant::now();
        for (from, to, grave) in [
            (size(1, 2), size(1, 1), false),
            (size(1, 3), size(1, 1), true),
            (size(1, 1), size(1, 0), true),
            (size(2, 0), size(0, 0), true),
            (size(2, 0), size(1, 0), false),
            (size(0, 0), size(0, 0), false),
        ] {
            let mut guard = serving(from.clusters, from.backends, now);
            let held = guard.judge(to, false, now) == Ruling::Hold { news: true };
            assert_eq!(held, grave, "{from:?} -> {to:?}");
        }
        let mut guard = serving(1, 10, now);
        assert_eq!(
            guard.judge(size(0, 0), true, now),
            Ruling::Hold { news: true }
        );
        assert_eq!(guard.wake(), Some(now + DELAY));
        let early = now + DELAY / 2;
        assert_eq!(
            guard.judge(size(0, 0), true, early),
            Ruling::Hold { news: false }
        );
        let late = now + DELAY;
        assert_eq!(
            guard.judge(size(0, 0), false, late),
            Ruling::Hold { news: false }
        );
        let confirmed = Ruling::Release { confirmed: true };
        assert_eq!(guard.judge(size(0, 0), true, late), confirmed);
        assert_eq!(guard.judge(size(0, 0), true, late), Ruling::Serve);
    }

    #[test]
    fn made_good_it_is_forgotten() {
        let now = Instant::now();
        let mut guard = serving(1, 10, now);
        guard.judge(size(1, 1), false, now);
        let good = Ruling::Release { confirmed: false };
        assert_eq!(guard.judge(size(1, 9), false, now), good);
        assert_eq!(guard.wake(), None);
        assert_eq!(guard.judge(size(1, 9), false, now), Ruling::Serve);
    }

    #[test]
    fn many_small_losses_are_one() {
        let now = Instant::now();
        let mut guard = serving(1, 10, now);
        for left in [8, 6, 5] {
            assert_eq!(
                guard.judge(size(1, left), false, now),
                Ruling::Serve,
                "{left}"
            );
        }
        assert_eq!(
            guard.judge(size(1, 4), false, now),
            Ruling::Hold { news: true }
        );

        let mut slow = serving(1, 10, now);
        for (step, left) in [(1, 8), (2, 6), (3, 4), (4, 2)] {
            assert_eq!(
                slow.judge(size(1, left), false, now + DELAY * step),
                Ruling::Serve
            );
        }
        // A peak of long ago is none.
        let mut later = serving(1, 10, now);
        assert_eq!(later.judge(size(1, 6), false, now), Ruling::Serve);
        assert_eq!(later.judge(size(1, 4), false, now + DELAY), Ruling::Serve);
    }

    #[test]
    fn a_new_session_starts_the_wait_again_and_no_delay_is_no_guard() {
        let now = Instant::now();
        let mut guard = serving(1, 10, now);
        guard.judge(size(0, 0), true, now);
        let later = now + DELAY * 3;
        guard.on_session(later);
        assert_eq!(
            guard.judge(size(0, 0), true, later),
            Ruling::Hold { news: false }
        );
        assert_eq!(guard.wake(), Some(later + DELAY));

        let mut off = Guard::new(Duration::ZERO);
        off.judge(size(1, 10), true, now);
        assert_eq!(off.judge(size(0, 0), true, now), Ruling::Serve);
    }
}
