//! What the gates of a cluster say of its endpoints.

use super::entries::Entries;
use super::gate::Gate;
use super::gates::{self, Gates};
use super::standing::Standing;
use crate::base::time::WallTime;
use crate::cluster::{Cluster, EndpointIndex};

/// The gates of one cluster's endpoints, read in place; those without one are ready. Where ids share
/// an address the worst counts (LB-18).
#[derive(Debug, Clone, Copy)]
pub struct GatesView<'a> {
    cluster: &'a Cluster,
    entries: Entries<'a>,
    fail_open: bool,
    /// Trials hold nobody back.
    lifts_trials: bool,
}

impl<'a> GatesView<'a> {
    /// What a blob of gates means for a cluster.
    pub fn read(cluster: &'a Cluster, blob: &'a [u8]) -> Self {
        let (entries, fail_open) = gates::open(blob);
        GatesView {
            cluster,
            entries,
            fail_open,
            lifts_trials: false,
        }
    }

    /// What gates mean for a cluster.
    pub fn new(cluster: &'a Cluster, gates: &'a Gates) -> Self {
        GatesView {
            cluster,
            entries: gates.entries(),
            fail_open: gates.fail_open,
            lifts_trials: false,
        }
    }

    /// The same, but that trials hold nobody back.
    pub fn lifting_trials(&self) -> Self {
        GatesView {
            lifts_trials: true,
            ..*self
        }
    }

    /// Whether any backend is on trial, of whatever configuration.
    pub fn has_trials(&self, now: WallTime) -> bool {
        self.entries.iter().any(|gate| gate.is_on_trial(now))
    }

    /// Whether an endpoint that can be picked is to be tried by one request alone first, where
    /// [`Self::may_await_trial`] holds.
    pub fn awaits_trial(&self, endpoint: EndpointIndex, now: WallTime) -> bool {
        let mut gates = self.held_against(endpoint);
        gates.any(|gate| gate.awaits_trial(now))
    }

    /// Whether that can be so of any.
    pub fn may_await_trial(&self) -> bool {
        self.cluster.backoff.half_open && !self.is_empty()
    }

    /// The latch of fail-open.
    pub fn fail_open(&self) -> bool {
        self.fail_open
    }

    /// Whether something is counted against an endpoint that a success ends.
    pub fn has_counts(&self, endpoint: EndpointIndex) -> bool {
        !self.is_empty() && self.held_against(endpoint).any(|gate| gate.has_counts())
    }

    /// The verdict on an endpoint.
    #[inline]
    pub fn standing(&self, endpoint: EndpointIndex, now: WallTime) -> Standing {
        if self.is_empty() {
            return Standing::Ready;
        }
        self.look_up(endpoint, now)
    }

    /// The same, but that one who is to be tried by one request alone counts as on trial.
    #[inline(never)]
    pub fn standing_of_tried(&self, endpoint: EndpointIndex, now: WallTime) -> Standing {
        let each = self.held_against(endpoint).map(|gate| {
            let standing = gate.standing(now);
            match gate.awaits_trial(now) {
                true => standing.max(Standing::OnTrial),
                false => standing,
            }
        });
        each.max().unwrap_or(Standing::Ready)
    }

    // Not inlined: mostly there is nothing to look up, and a pick asks in many places.
    #[inline(never)]
    fn look_up(&self, endpoint: EndpointIndex, now: WallTime) -> Standing {
        let each = self.held_against(endpoint).map(|gate| gate.standing(now));
        each.max().unwrap_or(Standing::Ready)
    }

    /// How long an endpoint's windows still last, nanoseconds; 0 where it is in none.
    pub fn wait_ns(&self, endpoint: EndpointIndex, now: WallTime) -> u64 {
        let each = self.held_against(endpoint).map(|gate| gate.wait_ns(now));
        each.max().unwrap_or(0)
    }

    /// Whether an endpoint is inside a cooldown.
    pub fn cools(&self, endpoint: EndpointIndex, now: WallTime) -> bool {
        self.held_against(endpoint).any(|gate| gate.cools(now))
    }

    /// Whether failures other than refused connections hold an endpoint back.
    pub fn ejected(&self, endpoint: EndpointIndex, now: WallTime) -> bool {
        let mut gates = self.held_against(endpoint);
        gates.any(|gate| gate.ejected && gate.is_inside(now))
    }

    /// Since when the verdict is against an endpoint: the earliest of its backends' verdicts; 1970
    /// where none is.
    pub fn unhealthy_since(&self, endpoint: EndpointIndex) -> WallTime {
        let unhealthy = self.held_against(endpoint).filter(|gate| gate.unhealthy);
        let since = unhealthy.map(|gate| gate.unhealthy_since);
        since.min().unwrap_or_default()
    }

    /// When an endpoint came back last; 1970 where that is long ago, or nobody asks.
    pub fn recovered_at(&self, endpoint: EndpointIndex) -> WallTime {
        let each = self.held_against(endpoint).map(|gate| gate.recovered_at);
        each.max().unwrap_or_default()
    }

    /// Whether an endpoint can be counted on: neither unhealthy nor out of tries. Merely waiting
    /// does not matter (GT-2).
    pub fn is_available(&self, endpoint: EndpointIndex) -> bool {
        !self.held_against(endpoint).any(|gate| gate.is_out())
    }

    /// Whether nothing is held against anybody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn held_against(&self, endpoint: EndpointIndex) -> impl Iterator<Item = Gate> {
        let keys = self.cluster.keys_at(endpoint);
        let gates = keys.filter_map(|key| self.entries.of(key));
        gates.map(|mut gate| {
            if self.lifts_trials && gate.on_trial {
                gate.until = WallTime::default();
            }
            gate
        })
    }
}
