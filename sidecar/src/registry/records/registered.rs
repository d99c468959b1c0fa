//! A backend that registered itself, and how long its silence is borne (RG-14).
//!
//! Silence is what we see: no clock but our own says how long a heartbeat has not changed. What stands in
//! the heartbeat is compared with the store's clock only to tell whose clock is wrong.

use pointsman_filter::config::BackendConfig;

use super::known::Known;
use crate::model::clock::{self, Moment};
use crate::model::event::HeartbeatFault;
use crate::registry::record::Registered;

/// A backend whose heartbeat has not changed for longer is out, ms.
pub const STALE_MS: u64 = 90_000;
/// A backend whose heartbeat has not changed for longer is deleted, ms.
pub const GONE_MS: u64 = 3_600_000;
/// How far a heartbeat may be from what it can be: clocks differ, and writes take their time, ms.
const SKEW_MAX_MS: u64 = 60_000;

/// What is known of one.
#[derive(Debug)]
pub struct Guest {
    /// The cluster that it belongs to.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// What it says.
    pub known: Known<BackendConfig>,
    heartbeat: Option<Vec<u8>>,
    /// Why its heartbeat cannot be true.
    pub fault: Option<HeartbeatFault>,
    /// When it was seen first, ms of our clock.
    first: u64,
    /// From when its silence counts, ms of our clock: since its heartbeat was seen to change, or since
    /// the end of the last outage of the store that it was alive before.
    counted: u64,
}

impl Guest {
    /// What is known after this reading, and whether that is news. A heartbeat is none: who was alive
    /// is alive.
    pub fn update(
        before: Option<Guest>,
        (cluster, id): (String, String),
        said: Registered,
        now: Moment,
    ) -> (Self, bool) {
        let old = before.as_ref();
        let was_alive = old.is_some_and(|old| old.is_alive(now.steady));
        let asked = old.is_some_and(|old| old.heartbeat.is_some());
        let first = old.map(|old| old.first);
        let old_fault = old.and_then(|old| old.fault);
        let same = old.filter(|old| old.heartbeat == said.heartbeat);
        let (counted, fault) = match (same, &said.heartbeat) {
            (Some(old), _) => (old.counted, old.fault),
            (None, Some(text)) => (now.steady, fault(text, first, now)),
            (None, None) => (now.steady, None),
        };
        let (known, news) = Known::update(before.map(|it| it.known), said.read);
        let guest = Guest {
            cluster,
            id,
            known,
            heartbeat: said.heartbeat,
            fault,
            first: first.unwrap_or(now.steady),
            counted,
        };
        let turned = (was_alive, asked, old_fault)
            != (
                guest.is_alive(now.steady),
                guest.heartbeat.is_some(),
                guest.fault,
            );
        (guest, news || turned)
    }

    /// The store was out of reach from `heard` to `now`, ms of our clock: nobody could send a heartbeat.
    /// Who was alive has the whole time again; for others that time does not count.
    pub fn spare(&mut self, heard: u64, now: u64) {
        self.counted = match self.is_alive(heard) {
            true => self.counted.max(now),
            false => self.counted.saturating_add(now.saturating_sub(heard)),
        };
    }

    /// Whether it is in.
    pub fn is_alive(&self, steady: u64) -> bool {
        let silent = steady.saturating_sub(self.counted);
        self.known.good.is_some() && (self.heartbeat.is_none() || silent <= STALE_MS)
    }

    /// When time alone takes it out, ms of our clock.
    pub fn due(&self) -> Option<u64> {
        self.heartbeat.as_ref()?;
        Some(self.counted.saturating_add(STALE_MS + 1))
    }

    /// The heartbeat of one that has been silent for so long that it goes.
    pub fn is_gone(&self, steady: u64) -> Option<&[u8]> {
        let good = self.known.good.is_some() && self.known.error.is_none();
        let heartbeat = self.heartbeat.as_deref().filter(|_| good)?;
        (steady.saturating_sub(self.counted) > GONE_MS).then_some(heartbeat)
    }

    /// What is to be said of a heartbeat that cannot be true.
    pub fn warning(&self) -> Option<String> {
        let Guest {
            cluster, id, fault, ..
        } = self;
        fault.map(|fault| format!("clusters.{cluster}.backends[{id}].heartbeatAt: {fault}"))
    }
}

/// Why a heartbeat that is seen now cannot be true; `first`: when the backend was seen first, ms of our
/// clock.
fn fault(text: &[u8], first: Option<u64>, now: Moment) -> Option<HeartbeatFault> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|it| it.parse().ok());
    let Some(at) = number.filter(|at| clock::is_plausible(*at)) else {
        return Some(HeartbeatFault::NotMilliseconds);
    };
    if at > now.store.saturating_add(SKEW_MAX_MS) {
        return Some(HeartbeatFault::Future);
    }
    let known = now.steady.saturating_sub(first?);
    let earliest = now.store.saturating_sub(known);
    (at.saturating_add(SKEW_MAX_MS) < earliest).then_some(HeartbeatFault::Past)
}
