//! A backend that registered itself, and how long its silence is borne (RG-14).

use pointsman_filter::config::ConfigErrors;

use super::known::Known;
use crate::registry::record::Registered;

/// A backend whose heartbeat is older is out, ms.
pub const STALE_MS: u64 = 90_000;
/// A backend whose heartbeat is older is deleted, ms.
pub const GONE_MS: u64 = 3_600_000;

/// What is known of one.
#[derive(Debug)]
pub struct Guest {
    /// The cluster that it belongs to.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// What it says.
    pub known: Known<Registered>,
    /// From when its silence counts, ms of the store's clock: its heartbeat, or the end of the last
    /// outage of the store that it was alive before.
    counted: u64,
}

impl Guest {
    /// What is known after this reading at `now`, and whether that is news. A heartbeat is none: who
    /// was alive is alive.
    pub fn update(
        before: Option<Guest>,
        (cluster, id): (String, String),
        read: Result<Registered, ConfigErrors>,
        now: u64,
    ) -> (Self, bool) {
        let was_alive = before.as_ref().is_some_and(|before| before.is_alive(now));
        let counted = before.as_ref().map(|it| it.counted);
        let old = before.as_ref().and_then(Guest::good).cloned();
        let (known, news) = Known::update(before.map(|it| it.known), read);
        let new = known.good.as_ref().and_then(|it| it.heartbeat);
        let since = old.as_ref().and_then(|it| it.heartbeat);
        let counted = match (new, since, counted) {
            // It did not go back in time: what was granted to it stays.
            (Some(new), Some(since), Some(counted)) if new >= since => new.max(counted),
            (new, _, _) => new.unwrap_or(0),
        };
        let guest = Guest {
            cluster,
            id,
            known,
            counted,
        };
        let beat = since.is_some()
            && new >= since
            && guest.good().map(|it| &it.backend) == old.as_ref().map(|it| &it.backend);
        (guest, news && !(beat && was_alive))
    }

    /// The present version, if it is good.
    fn good(&self) -> Option<&Registered> {
        let good = self.known.good.as_ref();
        good.filter(|_| self.known.error.is_none())
    }

    /// Counts its silence from `now` on if it was alive at `heard`, when the store was heard last:
    /// nobody could send a heartbeat since. `None`: nothing was ever heard before.
    pub fn spare(&mut self, heard: Option<u64>, now: u64) {
        if heard.is_none_or(|heard| self.is_alive(heard)) {
            self.counted = self.counted.max(now);
        }
    }

    /// Whether it is in.
    pub fn is_alive(&self, now: u64) -> bool {
        let heartbeat = self.known.good.as_ref().map(|it| it.heartbeat);
        match heartbeat {
            None => false,
            Some(None) => true,
            Some(Some(_)) => now.saturating_sub(self.counted) <= STALE_MS,
        }
    }

    /// When time alone takes it out.
    pub fn due(&self) -> Option<u64> {
        self.known.good.as_ref()?.heartbeat?;
        Some(self.counted.saturating_add(STALE_MS + 1))
    }

    /// The heartbeat of one that has been silent for so long that it goes.
    pub fn is_gone(&self, now: u64) -> Option<u64> {
        let heartbeat = self.good()?.heartbeat?;
        (now.saturating_sub(self.counted) > GONE_MS).then_some(heartbeat)
    }
}
