//! The exchange with the sidecar, from the filter's side: one VM posts, verdicts come back.

use std::rc::Rc;
use std::time::Duration;

use log::Level;
use proxy_wasm::types::Status;

use super::metrics::Whole;
use super::vm::Vm;
use super::{host, leader, shared};
use crate::base::event::EventName;
use crate::base::hash::{self, BackendKey, ClusterKey, KeySet};
use crate::base::keys;
use crate::base::time::WallTime;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::config::ExchangeConfig;
use crate::fleet::exchange::{
    Answer, CONTENT_TYPE, ClusterVerdicts, MESSAGE_MAX, PATH, REVISIONS_MAX, Request, Version,
    fitting,
};
use crate::fleet::heartbeat::Heartbeat;
use crate::fleet::rejection::RejectionRecord;
use crate::fleet::schedule::Schedule;
use crate::fleet::verdicts::VerdictState;
use crate::gates::{Gates, availability, recovery};

const TIMEOUT: Duration = Duration::from_secs(3);

/// One root's link to the sidecar.
#[derive(Default)]
pub struct SidecarLink {
    schedule: Schedule,
    node: Option<String>,
    /// What the workers ran at the last tick.
    revisions: Vec<u64>,
    workers: u32,
    /// The sidecar wants to know whom the workers hold to be unhealthy.
    hand_back: bool,
}

impl SidecarLink {
    /// Notes what the workers run, while the newest revision is `revision`.
    pub fn look_at(&mut self, heartbeats: &[Heartbeat], revision: u64, now: WallTime) {
        let workers = heartbeats
            .iter()
            .filter(|heartbeat| !heartbeat.is_left_behind(revision));
        let live = workers.clone().filter(|worker| worker.is_live(now));
        self.workers = u32::try_from(live.count()).unwrap_or(u32::MAX);
        let revisions: KeySet<u64> = workers.map(|worker| worker.revision).collect();
        self.revisions = revisions.iter().collect();
        self.revisions.truncate(REVISIONS_MAX);
    }

    /// Posts, unless a post is under way, the last ones failed just now, or another VM has the
    /// lease.
    pub fn post_if_due(&mut self, vm: &Vm, snapshot: &Snapshot, now: WallTime) {
        let Some(config) = &snapshot.exchange else {
            return;
        };
        if !self.schedule.is_due(now) || !leader::claim_lease(vm, snapshot.revision, now) {
            return;
        }
        let stands = verdict_state().0.version;
        let mut request = self.request(vm, self.schedule.have(stands), now);
        if self.hand_back {
            request.unhealthy = Some(fitting(snapshot.clusters().iter().filter_map(held)));
        }
        let body = request.to_json();
        match send(config, &body) {
            Ok(token) => self.schedule.sent(token, stands, now),
            Err(_) => self.failed(vm, now, "not sent"),
        }
    }

    fn request(&mut self, vm: &Vm, have: Version, now: WallTime) -> Request {
        let node = self.node.get_or_insert_with(|| {
            let id = host::property("xds\0node\0id").unwrap_or_default();
            String::from_utf8_lossy(&id).chars().take(253).collect()
        });
        Request {
            node: node.clone(),
            process: Some(vm.identity.get().process),
            at: Some(now),
            workers: self.workers,
            revisions: self.revisions.clone(),
            rejected: RejectionRecord::decode(&host::shared(keys::REJECTED).0)
                .map(|record| record.0),
            have,
            unhealthy: None,
        }
    }

    /// Takes an answer in: how many headers and how many bytes of body it has. Calls that were given
    /// up before are passed over.
    pub fn answered(&mut self, vm: &Vm, snapshot: &Snapshot, token: u32, size: (usize, usize)) {
        let Some(asked) = self.schedule.answered(token) else {
            return;
        };
        let now = host::now();
        match read_answer(size) {
            Ok(answer) => {
                self.schedule.succeeded();
                vm.metrics.count_whole(Whole::ExchangesDone);
                self.hand_back = answer.hand_back;
                if answer.hand_back {
                    return;
                }
                if take_in(vm, snapshot, &answer, asked, now) && answer.full {
                    self.schedule.took_full();
                }
            }
            Err(why) => self.failed(vm, now, &why),
        }
    }

    fn failed(&mut self, vm: &Vm, now: WallTime, why: &str) {
        if self.schedule.failed(now) {
            let fields = format!("reason={why:?}");
            vm.metrics
                .happened_whole(EventName::ExchangeFailed, Level::Warn, &fields);
        }
        vm.metrics.count_whole(Whole::ExchangesFailed);
    }

    /// Lets verdicts decay to "unknown", which counts as healthy, once the sidecar has been silent
    /// for longer than they hold (HC-23).
    pub fn expire_verdicts(&mut self, vm: &Vm, snapshot: &Snapshot, stepped: bool, now: WallTime) {
        let (state, version) = verdict_state();
        if stepped && let Some(state) = state.after_step(now) {
            return replace_verdict_state(state, version, now);
        }
        let Some(silent_ns) = state.expired(snapshot.verdict_ttl(), now) else {
            return;
        };
        let judged = |cluster: &Rc<Cluster>| judge(vm, cluster, now, &[], |_| true);
        if snapshot.clusters().iter().all(judged) {
            let fields = format!("silent_s={}", silent_ns.div_euclid(1_000_000_000));
            vm.metrics
                .happened_whole(EventName::VerdictsExpired, Level::Warn, &fields);
            vm.metrics.count_whole(Whole::VerdictsExpired);
            replace_verdict_state(VerdictState::default(), version, now);
        }
    }
}

/// Whom the workers hold to be unhealthy, of a cluster in which they do so.
fn held(cluster: &Rc<Cluster>) -> Option<ClusterVerdicts> {
    let unhealthy = Gates::decode(&host::shared(&cluster.gates_key).0).unhealthy();
    (!unhealthy.is_empty()).then(|| ClusterVerdicts {
        name: cluster.name.to_string(),
        unhealthy,
        healthy: Vec::new(),
    })
}

fn send(config: &ExchangeConfig, body: &str) -> Result<u32, Status> {
    let bearer = format!("Bearer {}", config.token);
    let mut headers = vec![
        (":method", "POST"),
        (":path", PATH),
        (":authority", config.cluster.as_str()),
        ("content-type", CONTENT_TYPE),
    ];
    if !config.token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    host::post(&config.cluster, headers, body, TIMEOUT)
}

/// Only a 200 of our own content type counts: Envoy answers for a dead sidecar. An answer that was
/// cut off comes without headers.
fn read_answer((headers, body_size): (usize, usize)) -> Result<Answer, String> {
    if headers == 0 {
        return Err("cut off".to_owned());
    }
    let status = host::call_header(":status").unwrap_or_default();
    let content_type = host::call_header("content-type").unwrap_or_default();
    if status != b"200" || content_type != CONTENT_TYPE.as_bytes() {
        return Err(format!("status {}", String::from_utf8_lossy(&status)));
    }
    if body_size > MESSAGE_MAX {
        return Err(format!("{body_size} bytes are too many"));
    }
    Answer::parse(&host::call_body(body_size)).map_err(|error| error.to_string())
}

/// Whether all of it is in the gates.
fn take_in(vm: &Vm, snapshot: &Snapshot, answer: &Answer, asked: Version, now: WallTime) -> bool {
    let (stands, version) = verdict_state();
    let Some(mut state) = stands.after(asked, answer.version, now) else {
        return false;
    };
    let mut done = true;
    for verdicts in &answer.clusters {
        done &= apply(vm, snapshot, verdicts, answer.full, now);
    }
    if answer.full {
        let names = answer.clusters.iter().map(|verdicts| &verdicts.name);
        let named: KeySet<ClusterKey> = names
            .map(|name| hash::cluster_key(name.as_bytes()))
            .collect();
        for cluster in snapshot
            .clusters()
            .iter()
            .filter(|c| !named.contains(c.key))
        {
            done &= judge(vm, cluster, now, &[], |_| true);
        }
    }
    if !done {
        // What could not be written is asked for again: the version stays.
        state.version = asked;
    }
    replace_verdict_state(state, version, now);
    done
}

/// Which verdicts stand, and the version of that record.
fn verdict_state() -> (VerdictState, u32) {
    let (record, version) = host::shared(keys::VERDICTS);
    (VerdictState::decode(&record), version)
}

/// Says which verdicts stand after the gates were changed, unless another VM has said so meanwhile.
fn replace_verdict_state(state: VerdictState, version: u32, now: WallTime) {
    if !host::replace_shared(keys::VERDICTS, &state.encode(), version) {
        host::set_shared(keys::VERDICTS, &VerdictState::unknown(now).encode());
    }
}

fn apply(
    vm: &Vm,
    snapshot: &Snapshot,
    verdicts: &ClusterVerdicts,
    full: bool,
    now: WallTime,
) -> bool {
    let ClusterVerdicts {
        name,
        unhealthy,
        healthy,
    } = verdicts;
    let named: KeySet<BackendKey> = if full { unhealthy } else { healthy }
        .iter()
        .copied()
        .collect();
    let is_healthy = |key: BackendKey| named.contains(key) != full;
    match snapshot.cluster(name.as_bytes()) {
        Some(cluster) => judge(vm, cluster, now, unhealthy, is_healthy),
        None => {
            let key = hash::cluster_key(name.as_bytes());
            shared::change_gates_unknown(key, |gates| gates.judge(unhealthy, is_healthy, now))
        }
    }
}

fn judge(
    vm: &Vm,
    cluster: &Cluster,
    now: WallTime,
    unhealthy: &[BackendKey],
    is_healthy: impl Fn(BackendKey) -> bool,
) -> bool {
    shared::change_gates(cluster, &vm.metrics, |gates: &mut Gates| {
        let mut events = Vec::new();
        recovery::judge(cluster, gates, unhealthy, &is_healthy, now);
        availability::all_down(cluster, gates, &mut events);
        events
    })
}
