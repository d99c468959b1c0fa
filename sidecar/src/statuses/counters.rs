//! What all sidecars of a registry have counted together: each adds its own part to the store's.

use std::collections::BTreeMap;

/// Counts by name.
pub type Totals = BTreeMap<String, u64>;

/// This process's part.
#[derive(Debug, Default)]
pub struct Counters {
    /// What the store was told already.
    told: BTreeMap<&'static str, u64>,
    /// The store's last answer; absent: it has given none.
    totals: Option<Totals>,
}

impl Counters {
    /// What the store has to be told of what was counted until now.
    pub fn news(&self, counted: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
        let more = counted.iter().map(|(name, count)| {
            let told = self.told.get(name).copied().unwrap_or(0);
            (*name, count.saturating_sub(told))
        });
        more.filter(|(_, more)| *more > 0).collect()
    }

    /// The store has added the news and says what they make; whether that is anything new.
    pub fn told(&mut self, news: &[(&'static str, u64)], totals: Totals) -> bool {
        for (name, more) in news {
            *self.told.entry(name).or_default() += more;
        }
        let changed = self.totals.as_ref() != Some(&totals);
        self.totals = Some(totals);
        changed
    }

    /// What all have counted.
    pub fn totals(&self) -> Totals {
        self.totals.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rm_9_each_count_is_told_once() {
        let mut counters = Counters::default();
        let news = counters.news(&[("a", 2), ("b", 0)]);
        assert_eq!(news, [("a", 2)]);
        // Not told, because the store did not answer: it is told with the next news.
        let news = counters.news(&[("a", 3), ("b", 1)]);
        assert_eq!(news, [("a", 3), ("b", 1)]);
        let totals: Totals = [("a".to_owned(), 7), ("b".to_owned(), 1)].into();
        assert!(counters.told(&news, totals.clone()));
        assert!(counters.news(&[("a", 3), ("b", 1)]).is_empty());
        assert!(!counters.told(&[], totals));
        assert_eq!(counters.totals()["a"], 7);
    }
}
