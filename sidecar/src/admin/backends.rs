//! `/v1/clusters/{cluster}/backends/{backend}`: one backend, and whether every proxy acts on what
//! is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use pointsman_filter::base::hash;
use pointsman_filter::config::{State as BackendState, duration};
use tokio::time::{Instant, sleep};

use super::Admin;
use super::failure::Failure;
use crate::api;
use crate::fleet::{Fleet, ProcessReport, Reach};
use crate::registry::Registry;
use crate::xds::Proxies;

/// Longest time that an answer is waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often the reports are looked at: one that repeats what was said wakes nobody up.
const LOOK: Duration = Duration::from_millis(50);

/// The revisions in which a backend is as it is now.
struct Watched {
    /// Reports from before say nothing: a revision can come back.
    since: Option<Instant>,
    state: Option<BackendState>,
    revisions: BTreeSet<u64>,
}

impl Watched {
    fn new(since: Option<Instant>) -> Self {
        Watched {
            since,
            state: None,
            revisions: BTreeSet::new(),
        }
    }

    /// Takes in the registry that is served from now on, in which the backend is like this.
    fn take(&mut self, revision: u64, state: Option<BackendState>, now: Instant) {
        if self.state != state && !self.revisions.is_empty() {
            self.revisions.clear();
            self.since = Some(now);
        }
        self.state = state;
        self.revisions.insert(revision);
    }

    fn obeys(&self, report: &ProcessReport) -> bool {
        let news = self.since.is_none_or(|since| report.seen > since);
        let mut revisions = report.revisions.iter();
        news && !report.revisions.is_empty() && revisions.all(|it| self.revisions.contains(it))
    }

    /// Who is known, and whether it obeys: every Envoy that is connected or reports, or both.
    fn proxies<'a>(&self, fleet: &'a Fleet, proxies: &'a Proxies) -> Vec<(&'a str, bool)> {
        let mut streams = proxies.streams_by_node();
        for node in fleet.nodes.keys() {
            streams.entry(node).or_default();
        }
        let of_node = |(node, streams)| {
            let reports = fleet.reports_of(node, streams);
            reports.map(move |it| (node, it.is_some_and(|report| self.obeys(report))))
        };
        streams.into_iter().flat_map(of_node).collect()
    }
}

fn reach(proxies: &[(&str, bool)]) -> Reach {
    match proxies.iter().all(|(_, obeys)| *obeys) {
        true if proxies.is_empty() => Reach::Unknown,
        true => Reach::Everywhere,
        false => Reach::Behind,
    }
}

/// How a backend is, at once or when every worker acts on it; `wait` says how long that may take.
pub async fn read(
    State(admin): State<Arc<Admin>>,
    Path((cluster, backend)): Path<(String, String)>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Json<api::BackendReach>, Failure> {
    let wait = wait(&asked)?;
    let mut registry = admin.sources.registry.clone();
    let begun = Instant::now();
    let mut watched = Watched::new((!wait.is_zero()).then_some(begun));
    loop {
        let served = registry.borrow_and_update().clone();
        let served = served.filter(|it| it.config.clusters.iter().any(|it| it.name == cluster));
        let served =
            served.ok_or_else(|| Failure::missing(format!("there is no cluster {cluster}")))?;
        let state = state(&served, &cluster, &backend);
        watched.take(served.revision, state, Instant::now());
        let answer = {
            let (fleet, proxies) = (admin.sources.fleet.borrow(), admin.sources.proxies.borrow());
            let known = watched.proxies(&fleet, &proxies);
            let over = begun.elapsed() >= wait || admin.stop.is_cancelled();
            let reach = reach(&known);
            (over || reach == Reach::Everywhere).then(|| {
                let behind = known.iter().filter(|(_, obeys)| !obeys);
                let behind: BTreeSet<&str> = behind.map(|(node, _)| *node).collect();
                api::BackendReach {
                    cluster: cluster.clone(),
                    backend: backend.clone(),
                    present: state.is_some(),
                    state: state.map(|it| it.name().to_owned()),
                    revision: hash::hex(served.revision),
                    reach: reach.name().to_owned(),
                    proxies: known.len(),
                    behind: behind.into_iter().map(str::to_owned).collect(),
                }
            })
        };
        if let Some(answer) = answer {
            return Ok(Json(answer));
        }
        tokio::select! {
            () = sleep(LOOK.min(wait)) => {}
            Ok(()) = registry.changed() => {}
        }
    }
}

fn state(registry: &Registry, cluster: &str, backend: &str) -> Option<BackendState> {
    let mut clusters = registry.config.clusters.iter();
    let cluster = clusters.find(|it| it.name == cluster)?;
    let found = cluster.backends.iter().find(|it| it.id == backend)?;
    Some(found.state)
}

fn wait(asked: &BTreeMap<String, String>) -> Result<Duration, Failure> {
    let mut wait = Duration::ZERO;
    for (name, value) in asked {
        if name != "wait" {
            return Err(Failure::request(format!(
                "{name}: is not a known parameter"
            )));
        }
        let read = duration::parse(value).filter(|it| *it <= WAIT_MAX);
        let most = duration::print(WAIT_MAX);
        let why = || Failure::request(format!("wait: must be a duration of at most {most}"));
        wait = read.ok_or_else(why)?;
    }
    Ok(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::Proxy;

    const OUT: Option<BackendState> = Some(BackendState::Draining);
    const IN: Option<BackendState> = Some(BackendState::Normal);

    /// Every entry is a process of its own.
    fn fleet(seen: Instant, processes: &[(&str, &[u64])]) -> Fleet {
        let mut fleet = Fleet::default();
        for (process, (node, revisions)) in (1..).zip(processes) {
            let report = ProcessReport {
                revisions: revisions.to_vec(),
                workers: 2,
                refused: None,
                written: None,
                since: seen,
                seen,
                unserving: None,
                idle: false,
                asks_left: 0,
            };
            let node = fleet.nodes.entry((*node).to_owned()).or_default();
            node.processes.insert(Some(process), report);
        }
        fleet
    }

    fn connected(nodes: &[&str]) -> Proxies {
        let proxy = |node: &&str| Proxy {
            node: (*node).to_owned(),
            connected: Instant::now(),
            types: BTreeMap::new(),
        };
        Proxies {
            streams: (1..).zip(nodes.iter().map(proxy)).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_is_everywhere_once_every_worker_of_every_proxy_says_so() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(1);
        let mut watched = Watched::new(Some(begun));
        watched.take(7, OUT, begun);
        watched.take(8, OUT, begun);
        let (nobody, edge) = (Proxies::default(), connected(&["edge"]));
        let twice = connected(&["edge", "edge"]);
        let reach_of = |fleet: &Fleet, proxies| reach(&watched.proxies(fleet, proxies));
        for (nodes, proxies, expected) in [
            (&[][..], &nobody, Reach::Unknown),
            (&[("edge", &[7, 8][..])][..], &nobody, Reach::Everywhere),
            (&[("edge", &[8])], &edge, Reach::Everywhere),
            // A worker runs what was before, or what nobody here knows.
            (&[("edge", &[7, 6])], &edge, Reach::Behind),
            // No worker has said what it runs.
            (&[("edge", &[])], &edge, Reach::Behind),
            // Connected, and silent so far.
            (&[], &edge, Reach::Behind),
            (&[("other", &[8])], &edge, Reach::Behind),
            // Not connected, but heard of.
            (&[("edge", &[8]), ("other", &[6])], &edge, Reach::Behind),
            // Two Envoys with one node id.
            (&[("edge", &[8]), ("edge", &[8])], &twice, Reach::Everywhere),
            (&[("edge", &[6]), ("edge", &[8])], &twice, Reach::Behind),
            (&[("edge", &[8]), ("edge", &[6])], &twice, Reach::Behind),
            (&[("edge", &[8])], &twice, Reach::Behind),
        ] {
            assert_eq!(
                reach_of(&fleet(later, nodes), proxies),
                expected,
                "{nodes:?}"
            );
        }
        let old = fleet(begun, &[("edge", &[8])]);
        assert_eq!(reach_of(&old, &edge), Reach::Behind, "from before");
        // A filter of an older release says not which process it is: one report is for all of them.
        let mut untold = fleet(later, &[("edge", &[8])]);
        let node = untold.nodes.get_mut("edge").expect("the node");
        let report = node.processes.remove(&Some(1)).expect("its report");
        node.processes.insert(None, report);
        assert_eq!(reach_of(&untold, &twice), Reach::Everywhere);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_that_comes_back_is_reported_again() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut watched = Watched::new(None);
        watched.take(8, OUT, begun);
        let old = fleet(at(1), &[("edge", &[8])]);
        let nobody = Proxies::default();
        assert_eq!(reach(&watched.proxies(&old, &nobody)), Reach::Everywhere);
        watched.take(6, IN, at(2));
        watched.take(8, OUT, at(3));
        assert_eq!(reach(&watched.proxies(&old, &nobody)), Reach::Behind);
        let new = fleet(at(4), &[("edge", &[8])]);
        assert_eq!(reach(&watched.proxies(&new, &nobody)), Reach::Everywhere);
    }

    #[test]
    fn how_long_to_wait_is_a_bounded_duration() {
        let asked = |name: &str, value: &str| {
            let asked = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            wait(&asked).ok()
        };
        assert_eq!(wait(&BTreeMap::new()).ok(), Some(Duration::ZERO));
        assert_eq!(asked("wait", "10s"), Some(Duration::from_secs(10)));
        for (name, value) in [("wait", "31s"), ("wait", "long"), ("hold", "1s")] {
            assert_eq!(asked(name, value), None, "{name}={value}");
        }
    }
}
