//! The exchange with the sidecar, from the filter's side: one VM posts, verdicts come back.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::types::Status;

use super::metrics::Whole;
use super::vm::Vm;
use super::{host, shared, tick};
use crate::base::hash;
use crate::base::keyed::KeySet;
use crate::base::keys;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Registry;
use crate::config::ExchangeConfig;
use crate::fleet::exchange::{
    Answer, CONTENT_TYPE, ClusterVerdicts, MESSAGE_MAX, PATH, REVISIONS_MAX, Request, Version,
};
use crate::fleet::heartbeat::{Card, Heard, Refusal};
use crate::fleet::schedule::{self, Posting};
use crate::gates::Gates;
use crate::gates::backoff::nanos;
use crate::gates::transition;

const TIMEOUT: Duration = Duration::from_secs(3);

/// The state of one root's exchange.
#[derive(Default)]
pub struct Exchange {
    posting: Posting,
    node: Option<String>,
    /// What the workers ran at the last tick.
    revisions: Vec<u64>,
    workers: u32,
    /// Where the next turn of the gauges begins.
    turn: usize,
}

impl Exchange {
    /// The next clusters in turn, at most `count`.
    pub fn turn<'a>(
        &mut self,
        clusters: &'a [Rc<Cluster>],
        count: usize,
    ) -> impl Iterator<Item = &'a Rc<Cluster>> {
        let start = if self.turn < clusters.len() {
            self.turn
        } else {
            0
        };
        self.turn = start.saturating_add(count);
        clusters.iter().skip(start).take(count)
    }

    /// Notes what the workers run.
    pub fn look_at(&mut self, cards: &[Card], now_ns: u64) {
        let live = cards.iter().filter(|card| card.is_live(now_ns)).count();
        self.workers = u32::try_from(live).unwrap_or(u32::MAX);
        let revisions: KeySet = cards.iter().map(|card| card.revision).collect();
        self.revisions = revisions.iter().collect();
        self.revisions.truncate(REVISIONS_MAX);
    }

    /// Posts, unless a post is under way, the last ones failed just now, or another VM has the
    /// lease.
    pub fn post_if_due(&mut self, vm: &Vm, registry: &Registry, now_ns: u64) {
        let Some(config) = &registry.exchange else {
            return;
        };
        if !self.posting.is_due(now_ns) || !tick::claim_lease(vm, now_ns) {
            return;
        }
        let stands = heard().0.version;
        let body = self.request(self.posting.have(stands)).to_json();
        match send(config, &body) {
            Ok(token) => self.posting.sent(token, stands, now_ns),
            Err(_) => self.failed(vm, now_ns, "not sent"),
        }
    }

    fn request(&mut self, have: Version) -> Request {
        let node = self.node.get_or_insert_with(|| {
            let id = host::property("xds\0node\0id").unwrap_or_default();
            String::from_utf8_lossy(&id).chars().take(253).collect()
        });
        Request {
            node: node.clone(),
            workers: self.workers,
            revisions: self.revisions.clone(),
            refused: Refusal::decode(&host::shared(keys::REFUSED).0).map(|refusal| refusal.0),
            have,
        }
    }

    /// Takes an answer in: how many headers and how many bytes of body it has. Calls that were given
    /// up before are passed over.
    pub fn answered(&mut self, vm: &Vm, registry: &Registry, token: u32, size: (usize, usize)) {
        let Some(asked) = self.posting.answered(token) else {
            return;
        };
        let now_ns = host::now_ns();
        match read_answer(size) {
            Ok(answer) => {
                self.posting.succeeded();
                vm.stats.count_whole(Whole::ExchangesDone);
                if take_in(vm, registry, &answer, asked, now_ns) && answer.full {
                    self.posting.took_full();
                }
            }
            Err(why) => self.failed(vm, now_ns, &why),
        }
    }

    fn failed(&mut self, vm: &Vm, now_ns: u64, why: &str) {
        if self.posting.failed(now_ns) {
            log::warn!("event=exchange_failed reason={why:?}");
        }
        vm.stats.count_whole(Whole::ExchangesFailed);
    }

    /// Lets verdicts decay to "unknown", which counts as healthy, once the sidecar has been silent
    /// for longer than they hold (HC-23).
    pub fn expire_verdicts(&mut self, vm: &Vm, registry: &Registry, now_ns: u64) {
        let (heard, place) = heard();
        let silent_ns = now_ns.saturating_sub(heard.at_ns);
        if heard == Heard::default() || silent_ns < nanos(registry.verdict_ttl()) {
            return;
        }
        let judged = |cluster: &Rc<Cluster>| judge(vm, cluster, &[], |_| true);
        if registry.clusters().iter().all(judged) {
            log::warn!(
                "event=verdicts_expired silent_s={}",
                silent_ns.div_euclid(1_000_000_000)
            );
            vm.stats.count_whole(Whole::VerdictsExpired);
            settle(Heard::default(), place, now_ns);
        }
    }
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
/// cut off comes without headers, and the SDK panics where they are asked for.
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
fn take_in(vm: &Vm, registry: &Registry, answer: &Answer, asked: Version, now_ns: u64) -> bool {
    let (stands, place) = heard();
    let Some(mut heard) = schedule::hear(stands, asked, answer.version, now_ns) else {
        return false;
    };
    let mut done = true;
    for verdicts in &answer.clusters {
        done &= apply(vm, registry, verdicts, answer.full);
    }
    if answer.full {
        let names = answer.clusters.iter().map(|verdicts| &verdicts.name);
        let named: KeySet = names
            .map(|name| hash::cluster_key(name.as_bytes()))
            .collect();
        for cluster in registry
            .clusters()
            .iter()
            .filter(|c| !named.contains(c.key))
        {
            done &= judge(vm, cluster, &[], |_| true);
        }
    }
    if !done {
        // What could not be written is asked for again: the version stays.
        heard.version = asked;
    }
    settle(heard, place, now_ns);
    done
}

/// Which verdicts stand, and the version of that record.
fn heard() -> (Heard, u32) {
    let (record, place) = host::shared(keys::HEARD);
    (Heard::decode(&record), place)
}

/// Says which verdicts stand after the gates were changed, if nobody has said so meanwhile.
fn settle(heard: Heard, place: u32, now_ns: u64) {
    if !host::replace_shared(keys::HEARD, &heard.encode(), place) {
        host::set_shared(keys::HEARD, &schedule::outrun(now_ns).encode());
    }
}

fn apply(vm: &Vm, registry: &Registry, verdicts: &ClusterVerdicts, full: bool) -> bool {
    let ClusterVerdicts {
        name,
        unhealthy,
        healthy,
    } = verdicts;
    let named: KeySet = if full { unhealthy } else { healthy }
        .iter()
        .copied()
        .collect();
    let is_healthy = |key: u64| named.contains(key) != full;
    match registry.cluster(name.as_bytes()) {
        Some(cluster) => judge(vm, cluster, unhealthy, is_healthy),
        None => {
            let key = hash::cluster_key(name.as_bytes());
            shared::change_gates_unknown(key, |gates| gates.judge(unhealthy, is_healthy))
        }
    }
}

fn judge(vm: &Vm, cluster: &Cluster, unhealthy: &[u64], is_healthy: impl Fn(u64) -> bool) -> bool {
    shared::change_gates(cluster, &vm.stats, |gates: &mut Gates| {
        let mut events = Vec::new();
        gates.judge(unhealthy, &is_healthy);
        transition::availability(cluster, gates, &mut events);
        events
    })
}
