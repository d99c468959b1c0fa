//! What a response, or an end, leads to: changes of gates, a cookie, a measured time.

use std::rc::Rc;

use super::attempts::Outcome;
use crate::balance::list::List;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::load::Load;
use crate::config::Metric;
use crate::gates::buckets::Buckets;
use crate::gates::evidence::{Counts, Evidence};
use crate::gates::transition::GateChange;

/// Longest time that is taken in, nanoseconds: what seems longer may be a clock that stepped forward.
const TIME_MAX_NS: u64 = 60_000_000_000;

/// What a response, or an end without one, leads to.
pub struct Effects {
    /// The stream's cluster.
    pub cluster: Rc<Cluster>,
    /// What the attempts prove.
    pub outcome: Outcome,
    /// The line that names the backend that served, for a client that does not know it.
    pub set_cookie: Option<String>,
    picked_at: WallTime,
    changes_gates: bool,
    owing: List,
    /// What each attempt costs, tokens.
    cost: u32,
    /// What is measured with it.
    pub(super) measurement: Option<Measurement>,
}

/// A time of an endpoint: that in which it served, or that in which it did not.
pub(super) struct Measurement {
    pub load: Rc<Load>,
    pub time: Time,
}

pub(super) enum Time {
    /// Nanoseconds.
    Lasted(u64),
    /// Until now.
    Since(WallTime),
    /// By an answer that failed.
    Failed,
}

impl Effects {
    /// What an outcome leads to, if it is told of before anything is measured.
    pub(super) fn new(
        cluster: &Rc<Cluster>,
        mut outcome: Outcome,
        (picked_at, had_counts): (WallTime, bool),
        cost: u32,
    ) -> Self {
        let failed = outcome.last().filter(|last| {
            // Where failures are averaged they count by their kind.
            let is_time = cluster.balancing.metric == Metric::Latency && !cluster.has_averages();
            is_time && last.counts == Counts::Failure && last.what.is_passive()
        });
        let failed = failed.and_then(|last| cluster.endpoint(last.endpoint));
        outcome.count_in_a_row(cluster);
        let is_news = outcome.evidence().any(|met| met.is_news(cluster));
        let succeeded = |last: Evidence| last.counts == Counts::Success;
        let owing = match cluster.buckets_key {
            Some(_) => outcome.later,
            None => List::default(),
        };
        Effects {
            cluster: cluster.clone(),
            owing,
            cost,
            outcome,
            set_cookie: None,
            picked_at,
            changes_gates: is_news || (had_counts && outcome.last().is_some_and(succeeded)),
            measurement: failed.map(|endpoint| Measurement {
                load: endpoint.load.clone(),
                time: Time::Failed,
            }),
        }
    }

    /// Whether any of them depends on the time: reading the clock is a call to the host.
    pub fn need_clock(&self) -> bool {
        self.changes_gates || self.measurement.is_some() || self.owes() || self.is_averaged()
    }

    /// Whether later attempts went to endpoints with a rate limit: their tokens are still to be taken.
    pub fn owes(&self) -> bool {
        !self.owing.is_empty()
    }

    /// The record of the cluster's buckets without those tokens.
    pub fn pay(&self, record: &[u8], now: WallTime) -> Vec<u8> {
        let owing = self.owing.entries().iter();
        let endpoints = owing.filter_map(|endpoint| self.cluster.endpoint(*endpoint));
        let quotas = endpoints.filter_map(|endpoint| endpoint.quota.as_deref());
        quotas.fold(record.to_vec(), |record, quota| {
            Buckets::read(&record, now).at_cost(self.cost).take(quota)
        })
    }

    /// The change of the cluster's gates; `None` where nothing is news.
    pub fn gate_change(&self, now: WallTime) -> Option<GateChange> {
        self.changes_gates.then(|| GateChange {
            evidence: self.outcome.evidence().collect(),
            picked_at: self.picked_at,
            now,
        })
    }

    /// Takes in the time of an endpoint, where the cluster's policy weighs one, and where it averages
    /// them the failures of others too.
    pub fn measure(&self, now: WallTime) {
        let measurement = self.measurement.as_ref();
        let measured = measurement.map(|Measurement { load, time }| {
            let time_ns = match time {
                Time::Lasted(time_ns) => *time_ns,
                Time::Since(start) => now.since(*start),
                Time::Failed => load.failed_ns(now),
            };
            (load, time_ns.min(TIME_MAX_NS))
        });
        match measured {
            _ if self.is_averaged() => self.average(measured.map(|it| it.1), now),
            Some((load, time_ns)) if self.cluster.has_averages() => load.ranking.wait(time_ns, now),
            Some((load, time_ns)) => load.observe(time_ns, now),
            None => {}
        }
    }

    /// Whether something is averaged: what an attempt met.
    fn is_averaged(&self) -> bool {
        self.cluster.has_averages() && self.outcome.evidence().next().is_some()
    }

    /// Averages what the attempts met (RT-15, RT-16). A time is one attempt's, the only one.
    fn average(&self, lasted_ns: Option<u64>, now: WallTime) {
        for met in self.outcome.evidence() {
            let endpoint = self.cluster.endpoint(met.endpoint);
            let Some(ranking) = endpoint.map(|endpoint| &endpoint.load.ranking) else {
                continue;
            };
            match met.what.penalty_ns() {
                0 => ranking.succeed(lasted_ns, now),
                penalty_ns => ranking.fail(lasted_ns.unwrap_or(0).max(penalty_ns), now),
            }
        }
    }
}
