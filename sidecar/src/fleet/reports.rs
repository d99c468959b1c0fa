//! What the proxies report over the exchange, kept for as long as they do.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_filter::base::time::WallTime;
use pointsman_filter::fleet::exchange::{Rejection, Request};
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::model::event::Event;

/// A process that is silent for longer is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest silence of a process that runs: filters post every second, and at least every six while
/// posts fail. Dropped then where its node id has another process since: an Envoy started again.
const PAUSE_MAX: Duration = Duration::from_secs(6);
/// A process that has no worker for longer is waited for by nobody.
const UNSERVING_MAX: Duration = Duration::from_secs(30);
/// Most processes kept; further ones get verdicts but are not shown.
const PROCESSES_MAX: usize = 1024;
/// So often a process is asked what it has from before: an answer may be lost, or its filter may be too
/// old to understand.
const ASKED_MAX: u8 = 3;

/// The last report of every Envoy that still reports.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By node id.
    pub nodes: BTreeMap<String, Node>,
}

/// The Envoys that say they are one node: one, unless its id is doubled or it was started again.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// By the number that the process has drawn; `None`: a filter of an older release says none.
    pub processes: BTreeMap<Option<u64>, ProcessReport>,
}

/// One Envoy process's last report.
#[derive(Debug, Clone)]
pub struct ProcessReport {
    /// The distinct revisions its workers run.
    pub revisions: Vec<u64>,
    /// Workers that serve requests.
    pub workers: u32,
    /// The last configuration its filter refused, and why.
    pub refused: Option<Rejection>,
    /// When it wrote this report, by its host's clock.
    pub written: Option<WallTime>,
    /// When its first report came.
    pub since: Instant,
    /// When this report came.
    pub seen: Instant,
    /// Since when it has had no worker that runs anything; `None`: it has one.
    pub unserving: Option<Instant>,
    /// It has had none for so long that nobody waits for it: no request has come to it.
    pub idle: bool,
    /// So often it is still to be asked which verdicts it has from before.
    pub asks_left: u8,
}

impl Fleet {
    /// Every process's.
    pub fn reports(&self) -> impl Iterator<Item = &ProcessReport> {
        self.nodes.values().flat_map(|node| node.processes.values())
    }

    /// What is known of a node that has `streams` open: `None` for each Envoy that has not reported.
    pub fn reports_of(
        &self,
        node: &str,
        streams: usize,
    ) -> impl Iterator<Item = Option<&ProcessReport>> {
        let processes = self.nodes.get(node).map(|node| &node.processes);
        let known = processes.map_or(0, BTreeMap::len);
        // Who does not say which process it is may have any of the streams.
        let told = processes.is_none_or(|it| !it.contains_key(&None));
        let silent = if told {
            streams.saturating_sub(known)
        } else {
            0
        };
        let reports = processes.into_iter().flat_map(BTreeMap::values).map(Some);
        reports.chain(std::iter::repeat_n(None, silent))
    }

    /// Drops the processes that went silent, and waits no longer for those that serve nothing;
    /// whether there were any.
    fn age(&mut self, now: Instant) -> bool {
        let before = self.reports().count();
        self.nodes.retain(|_, node| {
            node.drop_silent(now);
            !node.processes.is_empty()
        });
        let mut changed = self.reports().count() != before;
        let processes = self.nodes.values_mut().flat_map(|it| &mut it.processes);
        for (_, process) in processes.filter(|(_, process)| !process.idle) {
            let since = process.unserving;
            process.idle = since.is_some_and(|since| now.duration_since(since) > UNSERVING_MAX);
            changed |= process.idle;
        }
        changed
    }
}

impl ProcessReport {
    /// With what the one before it is remembered for.
    fn after(mut self, last: Option<&ProcessReport>) -> Self {
        self.since = last.map_or(self.since, |last| last.since);
        let left = last.map_or(ASKED_MAX, |last| last.asks_left.saturating_sub(1));
        self.asks_left = self.asks_left.min(left);
        if self.revisions.is_empty() {
            self.unserving = last.and_then(|last| last.unserving).or(Some(self.seen));
            self.idle = last.is_some_and(|last| last.idle);
        }
        self
    }

    /// Whether the last report was written later: posts of several VMs come over several connections
    /// and are read by several threads, in any order.
    fn was_overtaken_by(&self, last: &ProcessReport) -> bool {
        let written = self.written.zip(last.written);
        written.is_some_and(|(this, last)| this < last && !this.stepped_back_since(last))
    }

    fn is_news_after(&self, last: &ProcessReport) -> bool {
        (last.workers, &last.revisions, &last.refused)
            != (self.workers, &self.revisions, &self.refused)
    }
}

impl Node {
    /// Whether Envoys that run at the same time say they are this node: one has reported since
    /// another began to, and neither has been silent since.
    pub fn is_doubled(&self, now: Instant) -> bool {
        let Some((youngest, since)) = self.youngest() else {
            return false;
        };
        let runs = |it: &ProcessReport| now.duration_since(it.seen) <= PAUSE_MAX;
        let mut older = self.processes.iter().filter(|(id, _)| **id != youngest);
        self.processes.get(&youngest).is_some_and(runs)
            && older.any(|(_, process)| process.seen > since && runs(process))
    }

    /// The process that began to report last.
    fn youngest(&self) -> Option<(Option<u64>, Instant)> {
        let processes = self.processes.iter().map(|(id, it)| (*id, it.since));
        processes.max_by_key(|(_, since)| *since)
    }

    fn drop_silent(&mut self, now: Instant) {
        let youngest = self.youngest();
        self.processes.retain(|id, process| {
            let replaced =
                youngest.is_some_and(|(youngest, since)| youngest != *id && process.seen <= since);
            let most = if replaced { PAUSE_MAX } else { SILENCE_MAX };
            now.duration_since(process.seen) <= most
        });
    }
}

/// What a report came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// The process may have verdicts from before, and is to be asked for them.
    pub ask_back: bool,
    /// The process refused a configuration that it had not said so of before.
    pub event: Option<Event>,
}

/// Keeps a report. Receivers wake up only when it says something new.
pub fn take(fleet: &watch::Sender<Fleet>, request: Request, now: Instant) -> Taken {
    let (mut refused_before, mut ask_back) = (None, false);
    let refused = request.rejected.clone();
    let node = request.node.clone();
    let report = ProcessReport {
        revisions: request.revisions,
        workers: request.workers,
        refused: request.rejected,
        written: request.at,
        since: now,
        seen: now,
        unserving: None,
        idle: false,
        asks_left: match (request.process, &request.unhealthy) {
            (Some(_), None) => ASKED_MAX,
            // One that says no process is older than handing back.
            _ => 0,
        },
    };
    fleet.send_if_modified(|fleet| {
        let last = fleet.nodes.get(&request.node);
        let last = last.and_then(|node| node.processes.get(&request.process));
        refused_before = last
            .and_then(|last| last.refused.as_ref())
            .map(|it| it.revision);
        let is_full = last.is_none() && fleet.reports().count() >= PROCESSES_MAX;
        let is_overtaken = last.is_some_and(|last| report.was_overtaken_by(last));
        if is_full || is_overtaken {
            // Not kept, so what it refuses cannot be told from what it refused before.
            refused_before = report.refused.as_ref().map(|refused| refused.revision);
            return false;
        }
        let report = report.after(last);
        ask_back = report.asks_left > 0;
        let news = last.is_none_or(|last| report.is_news_after(last));
        let node = fleet.nodes.entry(request.node).or_default();
        node.processes.insert(request.process, report);
        news
    });
    let refused = refused.filter(|refused| refused_before != Some(refused.revision));
    let event = refused.map(|refused| Event::ConfigRefused {
        node,
        revision: refused.revision,
        reason: refused.reason,
    });
    Taken { ask_back, event }
}

/// Looks once a second who went silent and who serves nothing, until told to stop.
pub async fn drop_silent(fleet: watch::Sender<Fleet>, stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            now = tick.tick() => drop(fleet.send_if_modified(|fleet| fleet.age(now))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(revisions: &[u64]) -> Request {
        Request {
            node: "edge".to_owned(),
            revisions: revisions.to_vec(),
            workers: u32::try_from(revisions.len()).unwrap(),
            ..Request::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_serves_nothing_is_waited_for_so_long_and_again_once_it_serves() {
        let fleet = watch::Sender::new(Fleet::default());
        let start = Instant::now();
        let idle_at = |second: u64, revisions: &[u64]| {
            let now = start + Duration::from_secs(second);
            take(&fleet, report(revisions), now);
            fleet.send_if_modified(|fleet| fleet.age(now));
            fleet.borrow().nodes["edge"].processes[&None].idle
        };
        assert!(!idle_at(0, &[]));
        assert!(!idle_at(30, &[]), "it may still get its first request");
        assert!(idle_at(31, &[]));
        assert!(idle_at(32, &[]), "and stays so");
        assert!(!idle_at(33, &[7]));
        assert!(!idle_at(40, &[]), "from now on anew");
        assert!(!idle_at(70, &[]));
        assert!(idle_at(71, &[]));
    }

    #[test]
    fn ad_20_a_report_that_was_overtaken_says_nothing() {
        let (fleet, now) = (watch::Sender::new(Fleet::default()), Instant::now());
        let tell = |written: u64, refused: bool| {
            let rejection = Rejection {
                revision: 9,
                reason: "why".to_owned(),
            };
            let request = Request {
                at: Some(WallTime::from_ns(written)),
                rejected: refused.then_some(rejection),
                ..report(&[7])
            };
            let told = take(&fleet, request, now).event.is_some();
            let fleet = fleet.borrow();
            (told, fleet.reports().any(|it| it.refused.is_some()))
        };
        let hour = 3600 * 1_000_000_000;
        assert_eq!(tell(hour, false), (false, false));
        assert_eq!(tell(hour + 2, true), (true, true));
        assert_eq!(tell(hour + 1, false), (false, true));
        assert_eq!(tell(hour + 4, false), (false, false));
        assert_eq!(tell(hour + 3, true), (false, false));
        // A clock that was set back: the reports go on.
        assert_eq!(tell(hour / 2, true), (true, true));
    }

    /// Stands for a filter that does not say which process it is in.
    const UNTOLD: u64 = 0;

    fn told(process: u64) -> Option<u64> {
        Some(process).filter(|it| *it != UNTOLD)
    }

    /// A fleet of one node, by which processes reported at which second.
    struct Scene {
        fleet: watch::Sender<Fleet>,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Scene {
                fleet: watch::Sender::default(),
                start: Instant::now(),
            }
        }

        /// These report; then who is left, and whether the id is doubled.
        fn at(&self, second: u64, processes: &[u64]) -> (Vec<u64>, bool) {
            let now = self.start + Duration::from_secs(second);
            for process in processes {
                let request = Request {
                    process: told(*process),
                    ..report(&[7])
                };
                take(&self.fleet, request, now);
            }
            self.fleet.send_if_modified(|fleet| fleet.age(now));
            let fleet = self.fleet.borrow();
            let node = fleet.nodes.get("edge").cloned().unwrap_or_default();
            let processes = node.processes.keys().map(|it| it.unwrap_or(UNTOLD));
            (processes.collect(), node.is_doubled(now))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_process_of_a_node_is_kept_for_as_long_as_it_reports() {
        let scene = Scene::new();
        assert_eq!(scene.at(0, &[1]), (vec![1], false));
        assert_eq!(
            scene.at(1, &[2]),
            (vec![1, 2], false),
            "it may have been started again"
        );
        assert_eq!(scene.at(2, &[1, 2]), (vec![1, 2], true));
        assert_eq!(scene.at(8, &[2]), (vec![1, 2], true));
        assert_eq!(
            scene.at(9, &[2]),
            (vec![1, 2], false),
            "the first runs no more"
        );
        assert_eq!(scene.at(32, &[2]), (vec![1, 2], false));
        assert_eq!(scene.at(33, &[2]), (vec![2], false));
        assert_eq!(scene.at(64, &[]), (vec![], false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_started_again_is_soon_waited_for_no_more() {
        let scene = Scene::new();
        scene.at(0, &[9]);
        assert_eq!(scene.at(2, &[1]), (vec![1, 9], false));
        assert_eq!(scene.at(6, &[1]), (vec![1, 9], false));
        assert_eq!(scene.at(7, &[1]), (vec![1], false));
        // The same where its module was replaced by one that says which process it is in.
        let scene = Scene::new();
        scene.at(0, &[UNTOLD]);
        assert_eq!(scene.at(7, &[5]), (vec![5], false));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_node_that_is_connected_more_often_than_it_reports_somebody_is_silent() {
        let scene = Scene::new();
        let known = |streams| {
            let fleet = scene.fleet.borrow();
            let reports = fleet.reports_of("edge", streams);
            reports.map(|it| it.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(known(0), [false; 0]);
        assert_eq!(known(1), [false]);
        scene.at(0, &[1]);
        assert_eq!(known(0), [true]);
        assert_eq!(known(1), [true]);
        assert_eq!(known(2), [true, false]);
        scene.at(1, &[1, 2]);
        assert_eq!(known(2), [true, true]);
        // Who does not say which process it is, speaks for all of them, as it did before.
        let scene = Scene::new();
        scene.at(0, &[UNTOLD]);
        let fleet = scene.fleet.borrow();
        assert!(fleet.reports_of("edge", 2).all(|it| it.is_some()));
    }
}
