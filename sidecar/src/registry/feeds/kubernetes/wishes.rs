//! The wishes for a full reading: one reading is for all wishes before it, so that a storm of them
//! neither begins it again and again nor asks the server once for each.

/// Which wishes were granted, and which the reading under way will grant.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The last one that was granted.
    pub granted: u64,
    /// The last one before the reading under way began.
    taken: u64,
}

/// What follows from a look at the wishes.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Some were granted.
    pub granted: bool,
    /// A reading is to begin.
    pub list: bool,
}

impl Wishes {
    /// A reading begins, or began with a new session, after this wish.
    pub fn take(&mut self, wish: u64) {
        self.taken = wish;
    }

    /// Takes in the last wish there is; `listing`: a reading is under way.
    pub fn look(&mut self, wish: u64, listing: bool) -> Step {
        if listing {
            return Step {
                granted: false,
                list: false,
            };
        }
        let step = Step {
            granted: self.taken > self.granted,
            list: wish > self.taken,
        };
        self.granted = self.taken;
        self.take(wish);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(granted: bool, list: bool) -> Step {
        Step { granted, list }
    }

    #[test]
    fn ad_2_a_storm_of_wishes_waits_for_the_reading_under_way_and_is_granted_by_the_next() {
        let mut wishes = Wishes::default();
        assert_eq!(wishes.look(0, false), step(false, false));
        assert_eq!(wishes.look(1, false), step(false, true));
        for wish in 1..9 {
            assert_eq!(wishes.look(wish, true), step(false, false));
            assert_eq!(wishes.granted, 0, "nothing was read yet");
        }
        // Through: it is the answer to the first, not to what came after it had begun.
        assert_eq!(wishes.look(9, false), step(true, true));
        assert_eq!(wishes.granted, 1);
        assert_eq!(wishes.look(9, false), step(true, false));
        assert_eq!(wishes.granted, 9);
    }

    #[test]
    fn a_session_after_a_reload_reads_everything_once() {
        let mut wishes = Wishes::default();
        wishes.look(3, false);
        wishes.look(3, false);
        // Of the next one every wish is older than its reading.
        wishes.take(4);
        assert_eq!(wishes.look(4, true), step(false, false));
        assert_eq!(wishes.look(4, false), step(true, false));
        assert_eq!(wishes.look(4, false), step(false, false));
    }
}
